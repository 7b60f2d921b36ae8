"""Whatever a run reads, in whatever order its batches come back, and wherever it is cut off."""

from __future__ import annotations

import tempfile
from itertools import chain, repeat
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from sage_dask import Collect, Failure, Pipeline, SourceItem
from sage_dask.execute import TaskExecutor
from sage_dask.job import Job
from sage_dask.options import Machines, RunOptions
from sage_dask.runner import is_remembered
from sage_dask.schedule import Scheduling
from sage_dask.stage import Source

HERE = Machines("in a test", ["n0"], 2)

# Starts that may be cut off; the next one is not.
_MOST_CUTS = 3
_IN_FLIGHT = 4


class Scripted(Source):
    """Yields what it is given."""

    def __init__(self, items):
        self.items = items

    def read(self):
        yield from self.items


def item(place, kind, number):
    """Return an item of an input: a record of some id and fate, or an unreadable row."""
    if kind == "unreadable":
        return Failure(f"line-{place}", "read", "JSONDecodeError", "no")
    record = {"fate": number % 5, "p": "high" if kind == "odd priority" else number % 2}
    return SourceItem(f"k{number}", record)


KINDS = st.sampled_from(["record"] * 4 + ["unreadable", "odd priority"])
INPUTS = st.lists(st.tuples(KINDS, st.integers(0, 8)), max_size=14).map(
    lambda rows: [item(place, *row) for place, row in enumerate(rows)]
)


def ask(record):
    """Fail, drop, multiply or keep a record, as its fate is."""
    if record["fate"] == 0:
        raise ValueError("no answer")
    number = (1, 0, 1, 2, 3)[record["fate"]]
    return [{**record, "part": part} for part in range(number)]


def last(record):
    """Fail one part in some."""
    if (record["fate"], record["part"]) == (4, 1):
        raise ValueError("no end")
    return record


def plan_of(items, batch_size, sink):
    """Return a plan of two tasks, the first of which is remembered."""
    pipeline = Pipeline("p").source(Scripted(items)).flat_map(ask, memo=True)
    return pipeline.map(last, fuse=False).sink(sink).plan(batch_size=batch_size)


def run(plan, options, choose):
    """Run a plan to its end and return the report, or cut it off and return None.

    ``choose`` is given the number of batches on their way, and says what is next: None cuts the
    run off, 0 reads another batch, and any number takes that one of the batches on.
    """
    executors = [TaskExecutor(task) for task in plan.stages]
    on_way, is_exhausted = [], False
    with Job(plan, options, HERE) as job:
        job.start({})
        while True:
            job._outlet.flush()
            on_way += job.collect()
            if is_exhausted and not on_way:
                return job.finish()
            choice = choose(len(on_way))
            if choice is None:
                return None
            if not is_exhausted and (not on_way or (choice == 0 and len(on_way) < _IN_FLIGHT)):
                batch = job.admit()
                is_exhausted = batch is None
                on_way += [] if is_exhausted else [batch]
                continue
            batch = on_way.pop(choice % len(on_way))
            batch = advanced(batch, executors)
            (job.remember if is_remembered(plan, batch) else job.settle)(batch)


def advanced(batch, executors):
    """Take a batch through its tasks, up to one that is to be remembered."""
    while batch.start < len(executors):
        start = batch.start + 1
        batch = executors[start - 1].run(batch, node="n0")
        batch.start = start
        if start == 1 and batch.records:
            break
    return batch


def contents(sink):
    """Return what a sink holds, in a form that does not depend on how failures were met."""
    return list(zip(sink.ids, sink.records, strict=True)), sink.failures


@settings(max_examples=30)
@given(INPUTS, st.integers(1, 4), st.booleans(), st.data())
def test_a_run_that_was_cut_off_ends_as_one_that_was_not(items, batch_size, by_priority, data):
    """Output, failures and account are those of a run in one go, after any number of starts."""
    scheduling = Scheduling(record_priority="p" if by_priority else None)
    whole, found = Collect(), Collect()
    with tempfile.TemporaryDirectory() as folder:
        once = RunOptions(run_dir=Path(folder) / "once", scheduling=scheduling)
        expected = run(plan_of(items, batch_size, whole), once, lambda on_way: 0)

        options = RunOptions(run_dir=Path(folder) / "cut", scheduling=scheduling)
        report, cuts = None, 0
        while report is None:
            # How long a start lasts; the last one is not cut off.
            left = data.draw(st.integers(1, 20)) if cuts < _MOST_CUTS else None
            steps = chain(repeat(True, left), repeat(False)) if left else repeat(True)

            def choose(num_on_way, steps=steps):
                return data.draw(st.integers(0, _IN_FLIGHT)) if next(steps) else None

            report = run(plan_of(items, batch_size, found), options, choose)
            cuts += 1

    assert contents(found) == contents(whole)
    assert report.failures == expected.failures
    for name in ("num_read", "num_written", "num_failed", "num_filtered", "num_expanded"):
        assert getattr(report, name) == getattr(expected, name)
    report.check_account()
