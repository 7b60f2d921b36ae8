"""One suite over all runners: the same pipeline must end the same way."""

from __future__ import annotations

import os
import threading

import pytest

from sage_dask import (
    Collect,
    Failure,
    FromIterable,
    Operator,
    Pipeline,
    Report,
    SourceItem,
    StopRun,
)
from sage_dask.errors import PlanError, RunError, SetupError, SinkError, SourceError
from sage_dask.event_file import read_events
from sage_dask.options import RunOptions
from sage_dask.runner import LocalRunner
from sage_dask.stage import Source

COUNTS = ("num_read", "num_written", "num_failed", "num_filtered", "num_expanded")


def numbers(count):
    """Return a source of records {"x": 0}, {"x": 1}, ... called "0", "1", ..."""
    return FromIterable([{"id": n, "x": n} for n in range(count)], id="id")


def fail_on_threes(record):
    if record["x"] % 10 == 3:
        raise ValueError(f"{record['x']} ends in three")
    return {**record, "y": record["x"] * 2}


def twice_if_odd(record):
    return [record, {**record, "again": True}] if record["x"] % 2 else []


async def plus_one(record):
    return {**record, "y": record["y"] + 1}


def mixed(sink):
    """Return a pipeline in which records fail, vanish, multiply and wait."""
    return (
        Pipeline("mixed")
        .source(numbers(200))
        .map(fail_on_threes)
        .filter(lambda record: record["x"] != 7, name="not_seven")
        .flat_map(twice_if_odd)
        .map(plus_one)
        .sink(sink)
    )


def test_outputs_are_equal_whoever_runs_it(on):
    """Records, ids, their order and the failures are those of the reference, record for record."""
    expected, found = Collect(), Collect()
    mixed(expected).run()

    mixed(found).run(on)

    assert found.ids == expected.ids
    assert found.records == expected.records
    assert [failure.id for failure in found.failures] == [str(n) for n in range(3, 200, 10)]
    assert found.failures == expected.failures


def test_the_account_adds_up(on):
    """200 read, 20 failed, 91 dropped, and 89 odd ones that became two."""
    report = mixed(Collect()).run(on)

    assert [getattr(report, name) for name in COUNTS] == [200, 158, 20, 101, 79]
    assert report.failures == {"fail_on_threes: ValueError": 20}


def test_failures_carry_the_record_as_it_was_read(on):
    """The failed record can be fed back: it is the input, not what stages made of it."""
    sink = Collect()
    (
        Pipeline("late")
        .source(numbers(3))
        .map(lambda record: {"other": record["x"]}, name="forget")
        .map(lambda record: {"bad": 1 / record["other"]}, name="divide")
        .sink(sink)
        .run(on)
    )

    (failure,) = sink.failures

    assert (failure.id, failure.stage) == ("0", "divide")
    assert failure.record == {"id": 0, "x": 0}


def test_a_child_that_fails_carries_its_root(on):
    """A failure after an expansion shows the record that was read, under the child's id."""
    sink = Collect()
    (
        Pipeline("children")
        .source(numbers(2))
        .flat_map(lambda record: [{"z": 1}, {"z": 0}], name="split")
        .map(lambda record: {"z": 1 / record["z"]}, name="divide")
        .sink(sink)
        .run(on)
    )

    assert [(f.id, f.root, f.record) for f in sink.failures] == [
        ("0/1", "0", {"id": 0, "x": 0}),
        ("1/1", "1", {"id": 1, "x": 1}),
    ]


def test_output_is_in_input_order_by_default(on):
    """However batches finish, records are written as they were read."""
    sink = Collect()

    numbered = Pipeline("order").source(numbers(500)).map(dict).sink(sink)
    numbered.run(on, batch_size=3)

    assert [record["x"] for record in sink.records] == list(range(500))


def test_unordered_output_is_complete(on):
    """As-completed output holds the same records, each once."""
    sink = Collect()

    Pipeline("any").source(numbers(500)).map(dict).sink(sink).run(on, batch_size=3, ordered=False)

    assert sorted(record["x"] for record in sink.records) == list(range(500))


def test_stages_that_share_a_task_are_timed_apart(on):
    """Fusing does not hide a stage: each has its records and its time."""
    report = mixed(Collect()).run(on)

    assert list(report.stages) == ["fail_on_threes", "not_seven", "twice_if_odd", "plus_one"]
    assert report.stages["twice_if_odd"].records_in == 179
    assert all(cost.seconds > 0 for cost in report.stages.values())


def test_an_empty_source_is_a_run_that_did_its_job(on):
    """Nothing in, nothing out, and no error."""
    report = Pipeline("none").source(numbers(0)).map(dict).sink(Collect()).run(on)

    assert (report.num_read, report.is_done) == (0, True)


def test_a_source_of_bad_rows_alone_ends_well(on):
    """A source in which every id repeats writes one record and fails the others."""
    source = FromIterable([{"id": "same"}] * 50, id="id")

    report = Pipeline("same").source(source).map(dict).sink(Collect()).run(on)

    assert (report.num_written, report.num_failed) == (1, 49)


class Refusing(Operator):
    """Ends the run at the record 30."""

    def process_batch(self, records):
        if any(record["x"] == 30 for record in records):
            raise StopRun("the key was refused; set LLM_KEY")
        return list(records)


def test_stop_run_ends_the_run(on):
    """An operator's StopRun reaches the caller as it is, after the records before it."""
    sink = Collect()

    with pytest.raises(StopRun, match="the key was refused"):
        Pipeline("stop").source(numbers(100)).stage("ask", Refusing()).sink(sink).run(
            on, batch_size=5
        )

    assert [record["x"] for record in sink.records] == list(range(len(sink.records)))
    assert len(sink.records) <= 30


class Unready(Operator):
    """Can not be made ready."""

    def setup(self):
        raise FileNotFoundError("corpus.index")

    def process_batch(self, records):
        return list(records)


def test_a_set_up_that_fails_spends_no_record(on):
    """The run stops before the source is read, with the stage's name."""
    reads = []

    class Watched(Source):
        def read(self):
            reads.append(1)
            yield from ()

    with pytest.raises(SetupError, match=r"stage 'load'.*FileNotFoundError: corpus.index"):
        Pipeline("unready").source(Watched()).stage("load", Unready()).sink(Collect()).run(on)

    assert reads == []


def test_a_broken_source_ends_the_run_and_keeps_what_is_done(on):
    """A source that breaks is a run-level error, raised after the records before it are written."""

    class Breaking(Source):
        def read(self):
            for n in range(20):
                yield SourceItem(str(n), {"x": n})
            raise OSError("cable pulled")

    sink = Collect()

    with pytest.raises(SourceError, match="after record 20: OSError: cable pulled"):
        Pipeline("broken").source(Breaking()).map(dict).sink(sink).run(on, batch_size=2)

    assert [record["x"] for record in sink.records] == list(range(20))


def test_a_sink_that_breaks_ends_the_run(on):
    """A sink's error reaches the caller, with a note where the output is."""

    class Full(Collect):
        def write(self, ids, records):
            raise SinkError("disk full")

        def abort(self):
            return "0 records are safe"

    with pytest.raises(SinkError, match="disk full") as told:
        Pipeline("full").source(numbers(10)).map(dict).sink(Full()).run(on)

    assert told.value.__notes__ == ["0 records are safe"]


def test_a_record_the_sink_can_not_write_is_a_failed_record(on):
    """What has no form in the sink is counted as failed and kept with the other failures."""

    class Picky(Collect):
        def write(self, ids, records):
            bad = [i for i, record in zip(ids, records, strict=True) if record["x"] == 4]
            return [Failure(i, "write", "TypeError", "no form") for i in bad]

    sink = Picky()

    report = Pipeline("picky").source(numbers(10)).map(dict).sink(sink).run(on)

    assert (report.num_written, report.num_failed) == (9, 1)
    assert [failure.id for failure in sink.failures] == ["4"]


def test_the_run_folder_holds_its_events(on, tmp_path):
    """The report can be counted again from the run folder, and equals the one returned."""
    report = mixed(Collect()).run(on, run_dir=tmp_path / "run")

    assert Report.from_events(read_events(tmp_path / "run" / "events.jsonl")) == report


def test_a_run_folder_is_not_overwritten(on, tmp_path):
    """Without a journal, a folder that holds a run is refused before any record is read."""
    mixed(Collect()).run(on, run_dir=tmp_path, durable=False)

    with pytest.raises(RunError, match="already holds a run"):
        mixed(Collect()).run(on, run_dir=tmp_path, durable=False)


def test_progress_is_told_after_each_write(on):
    """The observer sees counts that only grow, and the final ones last."""
    seen = []

    report = mixed(Collect()).run(on, observer=seen.append)

    assert [p.num_written for p in seen] == sorted(p.num_written for p in seen)
    assert (seen[-1].num_read, seen[-1].num_written) == (200, report.num_written)
    assert seen[-1].expected == 200


def test_an_unknown_policy_is_refused(on):
    """A policy nobody knows is refused with those that are known."""
    with pytest.raises(PlanError, match=r"unknown policy 'dusk'.*did you mean 'dask'"):
        mixed(Collect()).run(on, policy="dusk")


def test_record_priorities_are_checked_by_every_runner(on):
    """A priority that is no number fails its record; order and all other records stay."""
    priorities = [1, 1, "high", None, 7, 1]
    records = [{"id": n, "p": p} for n, p in enumerate(priorities)]
    sink = Collect()

    report = (
        Pipeline("urgent")
        .source(FromIterable(records, id="id"))
        .map(dict, name="same")
        .sink(sink)
        .run(on, record_priority="p")
    )

    assert sink.ids == ["0", "1", "3", "4", "5"]
    (failure,) = sink.failures
    assert (failure.id, failure.stage, failure.error) == ("2", "read", "PriorityError")
    assert failure.record == records[2]
    assert (report.num_read, report.num_written, report.num_failed) == (6, 5, 1)


def test_tear_down_follows_every_set_up(on, tmp_path):
    """Each process lets go of the operators it made ready, also when the run fails."""
    log = tmp_path / "log"

    class Logged(Refusing):
        def setup(self):
            with log.open("a") as file:
                file.write(f"up {os.getpid()}\n")

        def teardown(self):
            with log.open("a") as file:
                file.write(f"down {os.getpid()}\n")

    with pytest.raises(StopRun):
        Pipeline("log").source(numbers(100)).stage("ask", Logged()).sink(Collect()).run(on)

    lines = log.read_text().splitlines()
    assert lines == [f"up {os.getpid()}", f"down {os.getpid()}"]


def test_a_runner_can_be_passed_as_it_is():
    """A runner object runs the plan, for those who bring their own."""
    sink = Collect()

    class Recording(LocalRunner):
        plans = 0

        def run(self, plan, options: RunOptions):
            Recording.plans += 1
            return super().run(plan, options)

    mixed(sink).run(Recording())

    assert Recording.plans == 1


def test_a_record_that_can_not_be_sent_does_not_hold_up_the_others(cluster_client):
    """On a cluster, what can not be pickled fails by itself, as it is read or as it is made."""
    lock = threading.Lock()
    items = [{"x": 0}, {"x": 1, "lock": lock}, {"x": 2}, {"x": 3}]
    sink = Collect()
    stuck = Pipeline("stuck").source(FromIterable(items)).map(lock_the_twos, name="make").sink(sink)

    report = stuck.run(cluster_client)

    assert [record["x"] for record in sink.records] == [0, 3]
    assert {failure.stage: failure.id for failure in sink.failures} == {"read": "2", "make": "3"}
    assert (report.num_written, report.num_failed) == (2, 2)


def lock_the_twos(record):
    return {**record, "lock": threading.Lock()} if record["x"] == 2 else record
