"""One run seen from the driver: order, accounts, errors and what they leave behind."""

from __future__ import annotations

import json
import threading

import pytest

from sage_dask import Collect, Failure, FromIterable, Pipeline, SourceItem
from sage_dask.budget import Budget
from sage_dask.endpoint.usage import Usage
from sage_dask.errors import AccountingError, PlanError, RunError, SinkError, SourceError
from sage_dask.event_file import read_events
from sage_dask.events import BatchCommitted, BatchFormed
from sage_dask.job import Job
from sage_dask.options import Machines, RunOptions
from sage_dask.record import StageTiming, TaskTiming
from sage_dask.schedule import Scheduling
from sage_dask.spent import ADMISSION, AWAY, RETURN
from sage_dask.stage import Operator, Source
from sage_dask.testing import FakeClock

HERE = Machines("in a test", ["n0", "n1"], 2)


def numbers(count):
    """Return a source of records {"x": 0}, {"x": 1}, ... called "0", "1", ..."""
    return FromIterable([{"id": n, "x": n} for n in range(count)], id="id")


def started(source, sink=None, *, batch_size=2, **options):
    """Return a job that has started, and its clock."""
    clock = FakeClock(100.0)
    pipeline = Pipeline("p").source(source).map(dict).sink(sink or Collect())
    job = Job(pipeline.plan(batch_size=batch_size), RunOptions(**options), HERE, clock=clock)
    job.start({"operators": 0.5})
    return job, clock


def done(batch, node="n0", seconds=1.0, usage=None):
    """Return a batch as a worker gives it back."""
    timing = StageTiming("dict", seconds, len(batch), len(batch), usage)
    batch.tasks.append(TaskTiming("dict", node, seconds, 0.0, (timing,)))
    return batch


class Breaking(Source):
    """Gives some records and breaks."""

    def __init__(self, count):
        self.count = count

    def read(self):
        for n in range(self.count):
            yield SourceItem(str(n), {"x": n})
        raise OSError("cable pulled")


def test_batches_are_written_in_the_order_of_reading():
    """A batch that is back early waits for those before it."""
    sink = Collect()
    job, _ = started(numbers(6), sink)
    first, second, third = (job.admit() for _ in range(3))

    job.settle(done(third))
    job.settle(done(second))
    before = list(sink.ids)
    job.settle(done(first))

    assert before == []
    assert sink.ids == ["0", "1", "2", "3", "4", "5"]


def test_unordered_batches_are_written_as_they_come():
    """Without order, a batch is written the moment it is back."""
    sink = Collect()
    job, _ = started(numbers(4), sink, ordered=False)
    first, second = job.admit(), job.admit()

    job.settle(done(second))
    job.settle(done(first))

    assert sink.ids == ["2", "3", "0", "1"]


def test_unwritten_batches_are_counted_until_they_are_written():
    """A batch that waits for an earlier one still counts: it is in the driver's memory."""
    job, _ = started(numbers(4))
    first, second = job.admit(), job.admit()

    job.settle(done(second))
    waiting = job.num_unwritten
    job.settle(done(first))

    assert waiting == 2
    assert job.num_unwritten == 0


def test_time_runs_from_the_start_to_the_last_write():
    """Latency goes from admission to write, and the makespan from start to last write."""
    job, clock = started(numbers(4))
    first = job.admit()
    clock.advance(1.0)
    second = job.admit()
    clock.advance(2.0)
    job.settle(done(first))
    clock.advance(4.0)
    job.settle(done(second))
    clock.advance(50.0)

    report = job.finish()

    assert report.makespan_s == 7.0
    assert (report.latency.p50_s, report.latency.p99_s) == (3.0, 6.0)
    assert report.throughput == 4 / 7.0


def test_the_report_counts_nodes_that_did_nothing():
    """A node without a task stands in the report with zeros."""
    job, _ = started(numbers(2))
    job.settle(done(job.admit()))

    report = job.finish()

    assert [(name, node.num_records) for name, node in report.nodes.items()] == [
        ("n0", 2),
        ("n1", 0),
    ]
    assert report.startup_s == {"operators": 0.5}


@pytest.mark.parametrize(("has_keys", "names"), [(True, ["dict"]), (False, [])])
def test_the_start_names_tasks_where_they_have_keys(has_keys, names, tmp_path):
    """A scheduler can be asked for them by these; in one process there is none."""
    machines = Machines("in a test", ["n0"], 1, has_keys=has_keys)
    pipeline = Pipeline("p").source(numbers(1)).map(dict).sink(Collect())
    with Job(pipeline.plan(), RunOptions(run_dir=tmp_path, durable=False), machines) as job:
        job.start({})

    (event,) = read_events(tmp_path / "events.jsonl")
    assert event.task_names == names


def test_a_batch_that_lost_a_record_is_refused():
    """What came back must account for what set out; nothing of it is written."""
    sink = Collect()
    job, _ = started(numbers(2), sink)
    batch = done(job.admit())
    del batch.ids[0], batch.records[0]

    with pytest.raises(AccountingError, match="set out with 2 records and accounts for 1"):
        job.settle(batch)

    assert sink.records == []


def test_an_account_that_does_not_add_up_is_found_before_the_output_is_published():
    """A record that is nowhere fails the run, and the sink is not closed as if all were well."""

    class Closing(Collect):
        closed = 0

        def close(self):
            self.closed += 1

    sink = Closing()
    job, _ = started(numbers(2), sink)
    job.settle(done(job.admit()))
    # Nothing outside can unbalance the account; only a defect of the job could.
    job._builder._counts["num_written"] -= 1

    with pytest.raises(AccountingError, match=r"read 2 .* but written 1"):
        job.finish()

    assert sink.closed == 0


def test_a_job_can_not_finish_with_batches_on_their_way():
    """A batch that never came back is an error, not a shorter output."""
    job, _ = started(numbers(4))
    job.admit()

    with pytest.raises(RunError, match="1 batches never came back"):
        job.finish()


def test_failures_get_their_record_from_the_inputs_that_were_kept():
    """The inputs are asked for only when something failed, and only then unpacked."""
    sink = Collect()
    job, _ = started(numbers(4), sink)
    first, second = job.admit(), job.admit()
    asked = []

    def inputs_of(batch):
        ids, records = list(batch.ids), list(batch.records)

        def inputs():
            asked.append(batch.index)
            return ids, records

        return inputs

    job.keep_inputs(0, inputs_of(first))
    job.keep_inputs(1, inputs_of(second))
    second.ids, second.records = ["2"], [{"id": 2, "x": 2}]
    second.failures = [Failure("3", "dict", "ValueError", "no")]
    job.settle(done(first))
    job.settle(done(second))

    assert asked == [1]
    assert [failure.record for failure in sink.failures] == [{"id": 3, "x": 3}]


def test_inputs_are_let_go_with_the_write():
    """A written batch leaves nothing behind that could be asked for."""
    job, _ = started(numbers(2))
    batch = job.admit()

    job.settle(done(batch))

    with pytest.raises(KeyError):
        job.keep_inputs(batch.index, lambda: ([], []))


def test_a_batch_of_bad_rows_alone_is_settled_while_reading():
    """Rows that can not be processed are written as failures without a task."""
    sink = Collect()
    source = FromIterable(
        [{"id": "a"}, {"id": "b"}, {"id": "a"}, {"id": "b"}, {"id": "c"}], id="id"
    )
    job, _ = started(source, sink, ordered=False)

    batches = [job.admit(), job.admit()]

    assert [batch.ids for batch in batches] == [["a", "b"], ["c"]]
    assert [failure.id for failure in sink.failures] == ["a", "b"]


def test_a_source_that_breaks_is_told_after_the_records_before_it():
    """Everything that was read is written, also the part of a batch, and then the error flies."""
    sink = Collect()
    job, _ = started(Breaking(3), sink)

    for batch in iter(job.admit, None):
        job.settle(done(batch))

    assert sink.ids == ["0", "1", "2"]
    with pytest.raises(SourceError, match="broke after record 3: OSError: cable pulled"):
        job.finish()


def test_a_crash_does_not_make_batches_larger():
    """A batch without a task says nothing about speed: workers may have died of its size."""
    job, _ = started(numbers(500), batch_size=None)
    batch = job.admit()
    size = job.size.records()
    batch.failures = [Failure(i, "worker", "KilledWorker", "died") for i in batch.ids]
    batch.ids, batch.records = [], []

    job.settle(batch)

    assert job.size.records() == size


def test_an_aborted_job_says_where_the_output_is():
    """The sink's sentence is added to the error, and the report tells the outcome."""
    job, _ = started(numbers(4))
    job.settle(done(job.admit()))
    error = KeyboardInterrupt()

    job.abort(error)

    assert error.__notes__ == ["2 records and 0 failures are in memory"]


def test_a_sink_that_can_not_abort_does_not_hide_the_error():
    """Whatever the sink raises becomes a note of the error that ended the run."""

    class Stuck(Collect):
        def abort(self):
            raise OSError("disk gone")

    job, _ = started(numbers(4), Stuck())
    error = SinkError("disk full")

    job.abort(error)

    assert error.__notes__ == ["and the output could not be left in order: disk gone"]


def test_a_job_that_never_started_leaves_the_sink_alone():
    """An output that was not opened holds an earlier run's records, which are not ours to tell."""
    sink = Collect()
    plan = Pipeline("p").source(numbers(1)).map(dict).sink(sink).plan()
    error = RunError("no room")

    Job(plan, RunOptions(), HERE).abort(error)

    assert not hasattr(error, "__notes__")


def test_records_of_another_priority_travel_apart():
    """The field that the run names cuts batches, and gives each of them its priority."""
    source = FromIterable([{"p": 1}, {"p": 2}, {"p": 2}])
    job, _ = started(source, scheduling=Scheduling(record_priority="p"))

    batches = [job.admit(), job.admit()]

    assert [(batch.priority, len(batch)) for batch in batches] == [(1.0, 1), (2.0, 2)]
    assert job.admit() is None


def test_the_source_is_closed_when_the_job_ends():
    """A generator that reads a file is told to stop, however the job ends."""
    log = []

    class Open(Source):
        def read(self):
            try:
                for n in range(100):
                    yield SourceItem(str(n), {})
            finally:
                log.append("closed")

    job, _ = started(Open())
    job.admit()

    job.abort(RunError("enough"))

    assert log == ["closed"]


def test_a_run_folder_that_holds_a_run_is_refused_at_once(tmp_path):
    """The folder is refused when the job is made, before operators are made ready."""
    (tmp_path / "events.jsonl").touch()
    plan = Pipeline("p").source(numbers(1)).map(dict).sink(Collect()).plan()

    with pytest.raises(RunError, match="already holds a run; give another run_dir"):
        Job(plan, RunOptions(run_dir=tmp_path, durable=False), HERE)


def test_a_job_that_did_not_start_leaves_its_run_folder_free(tmp_path):
    """A run that failed before its first record can be repeated with the same run folder."""
    folder = tmp_path / "run"
    plan = Pipeline("p").source(numbers(1)).map(dict).sink(Collect()).plan()

    Job(plan, RunOptions(run_dir=folder, durable=False), HERE)

    assert not folder.exists()


def test_a_run_folder_that_can_not_be_made_is_told(tmp_path):
    """A file in the folder's place is named, with what to do."""
    (tmp_path / "file").touch()

    with pytest.raises(RunError, match=r"file' can not be written .*; give another run_dir"):
        started(numbers(1), run_dir=tmp_path / "file", durable=False)


def test_an_aborted_run_ends_its_events_with_the_error(tmp_path):
    """The last event tells the class and the message of what ended the run."""
    job, _ = started(numbers(4), run_dir=tmp_path)
    job.settle(done(job.admit()))

    job.abort(SinkError("disk full"))

    events = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    kinds = ["job_started", "batch_formed", "batch_committed", "job_finished"]
    assert [event["kind"] for event in events] == kinds
    assert (events[-1]["outcome"], events[-1]["message"]) == ("SinkError", "disk full")


def test_an_interrupt_after_the_end_does_not_raise_another_error(tmp_path):
    """Ctrl-C between the last event and the return finds the events closed, and stays itself."""
    job, _ = started(numbers(1), run_dir=tmp_path)
    job.settle(done(job.admit()))
    job.finish()
    error = KeyboardInterrupt()

    job.abort(error)

    assert not any("events" in note for note in getattr(error, "__notes__", ()))


@pytest.mark.parametrize("limit", [0, -1])
def test_a_window_without_room_is_refused(limit):
    """No batch could ever set out, and the run would end well with nothing done."""
    with pytest.raises(PlanError, match=rf"max_in_flight={limit} must be at least 1"):
        RunOptions(max_in_flight=limit)


def test_progress_grows_with_the_clock():
    """The observer is told counts and elapsed time after each write."""
    seen = []
    job, clock = started(numbers(4), observer=seen.append)
    batches = [job.admit(), job.admit()]
    for batch in batches:
        clock.advance(2.0)
        job.settle(done(batch))

    assert [(p.num_read, p.num_written, p.elapsed_s) for p in seen] == [(2, 2, 2.0), (4, 4, 4.0)]
    assert [p.expected for p in seen] == [4, 4]


def test_a_budget_that_is_spent_ends_the_run_in_good_order():
    """What was under way is written, the output is kept as after an abort, and the report tells."""

    class Closing(Collect):
        is_closed = False

        def close(self):
            self.is_closed = True

    sink = Closing()
    job, _ = started(numbers(10), sink, budget=Budget(max_tokens=100))
    first, second = job.admit(), job.admit()
    job.settle(done(first, usage=Usage(requests=2, prompt_tokens=50, completion_tokens=10)))

    third = job.admit()
    job.settle(done(second, usage=Usage(requests=2, prompt_tokens=30, completion_tokens=9)))
    report = job.finish()

    assert third is None
    assert not report.is_done
    assert not sink.is_closed
    assert sink.ids == ["0", "1", "2", "3"]
    assert report.outcome == "budget reached"
    assert report.message == (
        "max_tokens=100 is reached: 99 tokens spent on 4 of 10 records; 4 records and 0 failures "
        "are in memory; to go on, raise it and run again (answers in the response cache cost "
        "nothing)"
    )
    assert report.usage.tokens == 99
    report.check_account()


def test_a_budget_that_is_spent_on_the_last_record_is_no_news():
    """A run that read its whole input is done, however little is left."""
    job, _ = started(numbers(2), budget=Budget(max_tokens=10))
    job.settle(done(job.admit(), usage=Usage(prompt_tokens=10)))

    assert job.admit() is None
    assert job.finish().is_done


def test_a_source_that_breaks_behind_the_budget_is_told():
    """Looking for more to read may meet the source's error, which is not hidden."""
    job, _ = started(Breaking(2), budget=Budget(max_tokens=10))
    job.settle(done(job.admit(), usage=Usage(prompt_tokens=10)))

    assert job.admit() is None
    with pytest.raises(SourceError, match="cable pulled"):
        job.finish()


def test_batches_that_wait_for_their_turn_are_spent_already():
    """What is back counts when it is back, not when the order of output lets it be written."""
    job, _ = started(numbers(10), budget=Budget(max_tokens=10))
    _, second = job.admit(), job.admit()

    job.settle(done(second, usage=Usage(prompt_tokens=5)))

    assert job.num_unwritten == 2
    assert job.admit() is None


def test_a_budget_without_prices_is_refused_before_operators_are_made_ready():
    """A limit in money is checked against the plan when the job is made."""

    class Asking(Operator):
        endpoints = ("http://127.0.0.1:1/v1",)

        def process_batch(self, records):
            return records

    plan = Pipeline("p").source(numbers(1)).stage("ask", Asking()).sink(Collect()).plan()

    with pytest.raises(PlanError, match="max_cost=1 is given, but stage 'ask'"):
        Job(plan, RunOptions(budget=Budget(max_cost=1.0)), HERE)


def test_progress_tells_what_was_spent():
    """Tokens and cost of all batches that are back are part of the progress."""
    seen = []
    job, _ = started(numbers(4), observer=seen.append)
    for _ in range(2):
        job.settle(done(job.admit(), usage=Usage(prompt_tokens=5, completion_tokens=2, cost=0.5)))

    assert [(p.tokens, p.cost) for p in seen] == [(7, 0.5), (14, 1.0)]


def test_a_note_is_told_at_once_and_until_it_is_cleared():
    """The observer is told when a note comes, changes and goes, and not when nothing changed."""
    seen = []
    job, clock = started(numbers(4), observer=seen.append)
    clock.advance(3.0)

    for text in ("down", "down", "still down", None, None):
        job.note("gpu-0", text)

    assert [p.notes for p in seen] == [("down",), ("still down",), ()]
    assert seen[0].elapsed_s == 3.0


def test_each_source_has_a_note_of_its_own():
    """Notes stand beside each other in the order of their sources, also after a write."""
    seen = []
    job, _ = started(numbers(4), observer=seen.append)
    job.note("gpu-1", "one")
    job.note("gpu-0", "zero")
    job.settle(done(job.admit()))
    job.note("gpu-1", None)

    assert [p.notes for p in seen[1:]] == [("zero", "one"), ("zero", "one"), ("zero",)]


def test_notes_outside_the_run_tell_nobody():
    """Before the start there is nothing to show them beside, and after the end nobody looks."""
    seen = []
    plan = Pipeline("p").source(numbers(1)).map(dict).sink(Collect()).plan()
    job = Job(plan, RunOptions(observer=seen.append), HERE)

    job.note("gpu-0", "early")
    job.start({})
    job.settle(done(job.admit()))
    job.finish()
    job.note("gpu-0", "late")

    assert [p.notes for p in seen] == [("early",)]


def test_the_observer_is_never_called_twice_at_once():
    """A note from another thread waits until the observer is back from the call before."""
    inside, go_on = threading.Event(), threading.Event()
    log = []

    def observer(progress):
        log.append(("in", progress.notes))
        if not progress.notes:
            inside.set()
            go_on.wait(10)
        log.append(("out", progress.notes))

    job, _ = started(numbers(2), observer=observer)
    writer = threading.Thread(target=lambda: job.settle(done(job.admit())))
    noter = threading.Thread(target=lambda: job.note("gpu-0", "down"))
    writer.start()
    assert inside.wait(10)
    noter.start()
    go_on.set()
    writer.join(10)
    noter.join(10)

    assert log == [("in", ()), ("out", ()), ("in", ("down",)), ("out", ("down",))]


class Waiting(Operator):
    """Waits for others."""

    async def process_batch(self, records):
        return list(records)


def mixed_job():
    """Return a started job of a task that computes and one that waits."""
    pipeline = Pipeline("p").source(numbers(1000)).map(dict, name="dict").stage("ask", Waiting())
    plan = pipeline.sink(Collect()).plan()
    job = Job(plan, RunOptions(), HERE)
    job.start({})
    return job


@pytest.mark.parametrize(("waited_s", "computed_s"), [(600.0, 0.001), (0.0, 0.001)])
def test_how_long_a_batch_waited_says_nothing_of_its_size(waited_s, computed_s):
    """Ten minutes at a model server shrink no batch: what computes took a moment, so it grows."""
    job = mixed_job()
    batch = job.admit()
    before = job.size.records()
    batch.tasks.append(TaskTiming("dict", "n0", computed_s, 0.0, ()))
    batch.tasks.append(TaskTiming("ask", "n0", waited_s, 0.0, ()))

    job.settle(batch)

    assert job.size.records() > before


def test_computing_too_long_shrinks_batches_though_nothing_waited():
    """The task that computes steers alone."""
    job = mixed_job()
    for seconds in (0.001, 600.0):
        batch = job.admit()
        before = job.size.records()
        batch.tasks.append(TaskTiming("dict", "n0", seconds, 0.0, ()))
        batch.tasks.append(TaskTiming("ask", "n0", 0.0, 0.0, ()))
        job.settle(batch)

    assert job.size.records() < before


def test_a_batchs_time_is_divided_without_a_gap():
    """Reading and handing over, away, unseen, and until it is written in its turn."""
    told = []
    job, clock = started(numbers(4), observer=told.append)
    first, second = job.admit(), job.admit()
    clock.advance(1.0)
    job.lap(first.index, ADMISSION)
    job.lap(second.index, ADMISSION)
    clock.advance(5.0)
    job.lap(second.index, AWAY, at_s=job.now_s - 2.0)
    job.lap(second.index, RETURN)
    job.settle(done(second))
    clock.advance(4.0)
    job.lap(first.index, AWAY)
    job.settle(done(first))

    breakdown = job.finish().breakdown

    parts = {part.name: part.seconds for part in breakdown.parts}
    assert breakdown.latency_s == 10.0
    # The first was away for nine seconds; the second for three, and waited four for its turn.
    assert (parts["admission"], parts["return"], parts["commit"]) == (1.0, 1.0, 2.0)
    assert sum(parts.values()) == pytest.approx(10.0)


def test_what_was_read_together_is_noted_with_its_ids(tmp_path):
    """So that the life of a record can be told, also of one that never came back."""
    job, clock = started(numbers(3), run_dir=tmp_path, durable=False)
    clock.advance(1.5)
    job.admit()
    job.admit()
    job.abort(SinkError("disk full"))

    formed = [e for e in read_events(tmp_path / "events.jsonl") if isinstance(e, BatchFormed)]

    assert [(event.batch, event.elapsed_s, event.ids) for event in formed] == [
        (0, 1.5, ["0", "1"]),
        (1, 1.5, ["2"]),
    ]


def test_a_batchs_event_names_the_records_that_failed_or_were_dropped(tmp_path):
    """With the beginning of what happened; the failed file has it whole."""
    job, _ = started(numbers(3), batch_size=3, run_dir=tmp_path, durable=False)
    batch = job.admit()
    batch.ids, batch.records = ["0"], [{"x": 0}]
    batch.failures = [Failure("1", "dict", "ValueError", "no " * 1000)]
    batch.filtered = ["2"]
    job.settle(done(batch))
    job.finish()

    (event,) = (e for e in read_events(tmp_path / "events.jsonl") if isinstance(e, BatchCommitted))

    assert event.filtered == ["2"]
    assert event.failed["1"].startswith("dict: ValueError: no no")
    assert len(event.failed["1"]) < 300


def test_progress_brings_a_report_that_is_a_quarter_of_a_second_old_at_most():
    """Counting everything for each of many small batches would cost more than they do."""
    told = []
    job, clock = started(numbers(8), observer=told.append)
    for _ in range(4):
        clock.advance(0.125)
        job.settle(done(job.admit()))

    assert [progress.num_written for progress in told] == [2, 4, 6, 8]
    assert [progress.report.num_written for progress in told] == [2, 2, 6, 6]
    assert told[2].report.makespan_s == 0.375


def test_how_far_a_job_is_can_be_asked_at_any_time():
    """Without an observer, too, and after its end."""
    job, clock = started(numbers(2))
    clock.advance(2.0)
    job.settle(done(job.admit()))
    clock.advance(1.0)

    progress = job.progress()

    assert (progress.num_written, progress.elapsed_s, progress.expected) == (2, 3.0, 2)
    assert progress.report.outcome == "running"
    assert sum(progress.latencies.values()) == 2
