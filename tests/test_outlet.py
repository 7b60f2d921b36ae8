"""The outlet of a run without a journal."""

from __future__ import annotations

from functools import partial

from sage_dask import Collect, Failure
from sage_dask.admitted import admitted
from sage_dask.event_file import EventFile, read_events
from sage_dask.events import BatchCommitted, BatchRemembered, JobFinished
from sage_dask.intake import Intake, Places
from sage_dask.outlet import DirectOutlet
from sage_dask.record import Batch


class Log(Collect):
    """Tells what is done to it."""

    def __init__(self):
        super().__init__()
        self.log = []

    def open(self):
        self.log.append("open")
        super().open()

    def close(self):
        self.log.append("close")

    def abort(self):
        self.log.append("abort")
        return "kept"


def event_of(batch, num_written):
    """Return the event of a batch."""
    failed = len(batch.failures)
    return BatchCommitted(batch.index, 1, num_written, failed, 0, 0, 0.0, 0.0, [], {})


def batch_of(index, *ids, failures=()):
    """Return a batch that is back, and what was kept of it."""
    batch = Batch(index, list(ids), [{"x": each} for each in ids], list(failures))
    return batch, admitted(Intake(batch, Places()), 0.0)


def outlet_of(sink, ordered=True, open_events=lambda: None):
    """Return an open outlet."""
    outlet = DirectOutlet(sink, ordered=ordered, open_events=open_events)
    outlet.open()
    return outlet


def test_batches_are_written_in_order_and_told_once():
    """A batch waits for those before it, and is safe when it is in the sink."""
    sink = Log()
    outlet = outlet_of(sink)

    outlet.take(*batch_of(1, "b"), event_of)
    early = list(outlet.written())
    outlet.take(*batch_of(0, "a"), event_of)

    assert early == []
    assert [written.batch.index for written in outlet.written()] == [0, 1]
    assert list(outlet.written()) == []
    assert sink.ids == ["a", "b"]


def test_failures_follow_in_the_order_of_their_stages_with_their_records():
    """Unreadable rows first, then what stages failed, then what the sink refused."""

    class Picky(Log):
        def write(self, ids, records):
            return [Failure(ids[0], "write", "TypeError", "no form")]

    sink = Picky()
    outlet = outlet_of(sink)
    unreadable = Failure("line-1", "read", "E", "no", record={"raw": "{"})
    batch, kept = batch_of(0, "a", "b", failures=[unreadable])
    batch.ids, batch.records = ["a"], [{}]
    batch.failures = [Failure("b", "map", "E", "no")]

    outlet.take(batch, kept, event_of)

    ((_, event, _),) = outlet.written()
    assert [failure.id for failure in sink.failures] == ["line-1", "b", "a"]
    assert [failure.record for failure in sink.failures] == [{"raw": "{"}, {"x": "b"}, {"x": "a"}]
    assert (event.num_written, event.num_failed) == (0, 3)


def test_a_batch_that_is_to_be_remembered_goes_on_at_once():
    """Nothing is kept that a later start could use, and nothing holds the batch up."""
    outlet = outlet_of(Log())
    batch, kept = batch_of(0, "a")
    event = BatchRemembered(0, 1.0, [])

    outlet.remember(batch, kept, "ask", event)

    assert list(outlet.written()) == [(batch, event, None)]
    assert (outlet.num_pending, outlet.finished(), list(outlet.past_events())) == (0, None, [])


def test_events_reach_their_file_as_they_come(tmp_path):
    """Each start has a file of its own, which ends with the outlet."""
    path = tmp_path / "events.jsonl"
    outlet = outlet_of(Log(), open_events=partial(EventFile, path))
    outlet.take(*batch_of(0, "a"), event_of)
    outlet.note(JobFinished("done"))
    outlet.close()
    outlet.note(JobFinished("late"))

    assert [event.kind for event in read_events(path)] == ["batch_committed", "job_finished"]


def test_the_sink_is_published_or_kept():
    """A run that did its job closes the sink, one that did not has it say what is there."""
    done, broken = Log(), Log()

    outlet_of(done).finish(0, lambda event: None)
    told = outlet_of(broken).abort()

    assert (done.log, broken.log, told) == (["open", "close"], ["open", "abort"], "kept")


def test_an_outlet_that_was_never_open_leaves_the_sink_alone():
    """What is there may be an earlier run's."""
    sink = Log()

    assert DirectOutlet(sink, ordered=True, open_events=lambda: None).abort() == ""
    assert sink.log == []


def test_a_part_that_the_sink_refuses_fails_with_the_record_it_was_made_of():
    """The failed file shows what was read, though the part has an id of its own."""

    class Picky(Log):
        def write(self, ids, records):
            super().write(ids, records)
            return [Failure("a/1", "write", "ValueError", "no")]

    sink = Picky()
    batch = Batch(0, ["a"], [{"x": "a"}])
    kept = admitted(Intake(batch, Places()), 0.0)
    made = Batch(0, ["a/0", "a/1"], [{}, {}], roots={"a/0": "a", "a/1": "a"}, num_expanded=1)

    outlet_of(sink).take(made, kept, event_of)

    (failure,) = sink.failures
    assert (failure.id, failure.root, failure.record) == ("a/1", "a", {"x": "a"})
