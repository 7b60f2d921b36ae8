"""Deadlines and isolation, whoever runs the pipeline."""

from __future__ import annotations

import asyncio
import collections
import ctypes
import os
import signal
import subprocess
import sys

import cloudpickle
import psutil
import pytest
from distributed import Client, LocalCluster

from sage_dask import Collect, FromIterable, Operator, Pipeline, StopRun
from sage_dask.errors import PlanError

# Subprocesses can not import tests.
cloudpickle.register_pickle_by_value(sys.modules[__name__])


def subprocesses():
    """Return the subprocesses of isolated stages in which anything of this process works."""
    return [
        process
        for process in psutil.Process().children(recursive=True)
        if any(part.endswith("bootstrap.py") for part in process.cmdline())
    ]


CULPRIT = 37
BATCH = 25


class Noting(Operator):
    """Notes each record in a file before it is worked on; one of them is the culprit."""

    def __init__(self, notes, conduct):
        self.notes = notes
        self.conduct = conduct

    def note(self, record):
        with self.notes.open("a") as notes:
            notes.write(f"{record['x']}\n")

    def process_batch(self, records):
        for record in records:
            self.note(record)
            if record["x"] == CULPRIT:
                self.conduct()
        return [{**record, "pid": os.getpid()} for record in records]


class Waiting(Noting):
    """The same, for one that waits for ever."""

    async def process_batch(self, records):
        for record in records:
            self.note(record)
            if record["x"] == CULPRIT:
                await asyncio.Event().wait()
        return list(records)


def hundred(operator, sink, **options):
    """Return a pipeline of a hundred records in one stage, between two that are not isolated."""
    return (
        Pipeline("hundred")
        .source(FromIterable([{"id": n, "x": n} for n in range(100)], id="id"))
        .map(lambda record: {**record, "before": os.getpid()}, name="before")
        .stage("work", operator, **options)
        .sink(sink)
    )


def check(sink, notes, error):
    """Assert that the culprit failed alone, and that nobody was asked more than was needed."""
    assert [(failure.id, failure.stage, failure.error) for failure in sink.failures] == [
        (str(CULPRIT), "work", error)
    ]
    assert [record["x"] for record in sink.records] == [n for n in range(100) if n != CULPRIT]
    times = collections.Counter(map(int, notes.read_text().split()))
    first = CULPRIT - CULPRIT % BATCH
    assert times[CULPRIT] == 2
    assert all(times[n] == 1 for n in range(100) if not first <= n < first + BATCH)
    assert all(times[n] in (1, 2) for n in range(first, first + BATCH))


FAULTS = {
    "waits for ever": (signal.pause, "DeadlineError"),
    "segmentation fault": (lambda: ctypes.string_at(0), "ProcessDiedError"),
    "leaves": (lambda: os._exit(3), "ProcessDiedError"),
}


@pytest.fixture
def no_process_left():
    """See that a test leaves no process."""
    yield
    # A batch that was under way when its run was stopped ends a little later.
    _, alive = psutil.wait_procs(subprocesses(), timeout=60)
    assert alive == []


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.usefixtures("no_process_left")
def test_one_isolated_record_of_a_hundred_fails_alone(fault, on, tmp_path):
    """Whatever it does to its process, 99 come through, and it is tried twice in all."""
    conduct, error = FAULTS[fault]
    sink, notes = Collect(), tmp_path / "notes"
    operator = Noting(notes, conduct)

    hundred(operator, sink, isolate=True, deadline_s=2).run(on, batch_size=BATCH)

    check(sink, notes, error)
    assert all(record["before"] == os.getpid() != record["pid"] for record in sink.records)


@pytest.mark.slow
def test_one_waiting_record_of_a_hundred_is_cancelled(on, tmp_path):
    """An answer that never comes costs its batch two deadlines, and 99 come through."""
    sink, notes = Collect(), tmp_path / "notes"

    hundred(Waiting(notes, None), sink, deadline_s=2).run(on, batch_size=BATCH)

    check(sink, notes, "DeadlineError")


@pytest.mark.usefixtures("no_process_left")
def test_a_run_that_is_stopped_leaves_no_process(on):
    """Also where a run ends early, its subprocesses end with it."""

    def stop(record):
        raise StopRun("enough")

    pipeline = Pipeline("stop").source(FromIterable([{"x": n} for n in range(100)]))

    with pytest.raises(StopRun, match="enough"):
        pipeline.map(stop, isolate=True).sink(Collect()).run(on)


def test_what_waits_is_not_isolated(on):
    """The plan refuses it, and says what to do instead."""
    pipeline = hundred(Waiting(None, None), Collect(), isolate=True)

    with pytest.raises(PlanError, match=r"stage 'work': Waiting waits .*leave it out"):
        pipeline.run(on)


@pytest.mark.cluster
def test_a_worker_process_may_have_subprocesses(tmp_path):
    """Dask's workers are daemons; a crash in a child of theirs costs the record, not the worker."""
    sink, notes = Collect(), tmp_path / "notes"
    conduct, error = FAULTS["segmentation fault"]
    pipeline = hundred(Noting(notes, conduct), sink, isolate=True)
    with (
        LocalCluster(1, threads_per_worker=2, dashboard_address=None, memory_limit=0) as cluster,
        Client(cluster) as client,
    ):
        (pid,) = client.run(os.getpid).values()

        pipeline.run(client, batch_size=BATCH)

        assert list(client.run(os.getpid).values()) == [pid]
        assert psutil.Process(pid).children() == []
    check(sink, notes, error)
    assert {record["before"] for record in sink.records} == {pid}


DELAYED = """
import dask
from sage_dask import Collect, FromIterable, Pipeline

def work(record):
    import ctypes, os
    if record["x"] == 7:
        ctypes.string_at(0)
    return {"x": record["x"], "pid": os.getpid()}

pipeline = Pipeline("p").source(FromIterable([{"x": n} for n in range(20)])).sink(Collect())
batches = pipeline.map(work, isolate=True).to_delayed(batch_size=10)
(done,) = dask.compute([batch for batch in batches], scheduler="sync")
print([record["x"] for batch in done for record in batch.records])
print([failure.error for batch in done for failure in batch.failures])
"""


def test_delayed_batches_isolate_too():
    """Under Dask's own schedulers a crash fails its record, and no process outlives the program."""
    # Its children hold the other end of its output: this returns when all of them are gone.
    done = subprocess.run([sys.executable, "-c", DELAYED], stdout=subprocess.PIPE, text=True)

    kept = [n for n in range(20) if n != 7]
    assert done.stdout.splitlines() == [str(kept), "['ProcessDiedError']"]
