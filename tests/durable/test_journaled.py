"""The outlet that commits to a run's journal, and the choice of an outlet."""

from __future__ import annotations

import json
import threading
from functools import partial

import pytest

from sage_dask import Collect, Failure, FromIterable, Pipeline
from sage_dask.admitted import admitted
from sage_dask.durable.follow import GROWING
from sage_dask.durable.journaled import JournalOutlet, outlet_of
from sage_dask.durable.run_folder import EVENTS, PUBLISHED
from sage_dask.errors import RunError
from sage_dask.events import BatchCommitted, BatchRemembered, JobFinished
from sage_dask.intake import Intake, Places
from sage_dask.job import Job
from sage_dask.journal.codec import digest
from sage_dask.journal.entries import Group
from sage_dask.journal.lock import holder
from sage_dask.journal.rows import unpack, unpack_memo
from sage_dask.journal.store import JournalError
from sage_dask.options import Machines, RunOptions
from sage_dask.outlet import DirectOutlet
from sage_dask.record import Batch
from sage_dask.schedule import Scheduling

HERE = Machines("in a test", ["n0"], 1)


def plan_of(sink=None, count=4):
    """Return a plan over records {"id": n}."""
    source = FromIterable([{"id": n} for n in range(count)], id="id")
    return Pipeline("p").source(source).map(dict).sink(sink or Collect()).plan()


def opened(run_dir, sink=None, wake=lambda: None, **options):
    """Return an open outlet with a journal."""
    outlet = outlet_of(plan_of(sink), RunOptions(run_dir=run_dir, **options), wake)
    outlet.open()
    return outlet


def batch_of(index, *numbers):
    """Return a batch of records {"id": n}, and what is kept of it."""
    records = [{"id": n} for n in numbers]
    places = Places([str(n) for n in numbers], numbers, [digest(each) for each in records])
    batch = Batch(index, list(places.ids), records, start=1)
    return batch, admitted(Intake(batch, places), 0.0)


def event_of(batch, num_written):
    """Return the event of a batch."""
    count = num_written + len(batch.failures)
    return BatchCommitted(batch.index, count, num_written, len(batch.failures), 0, 0, 0, 0, [], {})


def rows(outlet):
    """Return what the journal of an outlet holds."""
    return [unpack(entry) for entry in outlet._run.store.entries()]


def test_a_run_folder_gets_a_journal_unless_it_is_not_wanted(tmp_path):
    """Without a folder, or by choice, batches go into the sink as they come."""
    kinds = []
    for options in (
        RunOptions(),
        RunOptions(run_dir=tmp_path / "a", durable=False),
        RunOptions(run_dir=tmp_path / "b"),
    ):
        outlet = outlet_of(plan_of(), options, lambda: None)
        kinds.append(type(outlet))
        outlet.close()

    assert kinds == [DirectOutlet, DirectOutlet, JournalOutlet]


def test_a_batch_is_safe_before_it_is_told(tmp_path):
    """Whoever waits is woken by then, and finds records and event in the journal."""
    woken = threading.Event()
    outlet = opened(tmp_path, wake=woken.set)
    batch, kept = batch_of(0, 0, 1)

    outlet.take(batch, kept, event_of)
    pending = outlet.num_pending
    assert woken.wait(60)

    assert [written.event.num_written for written in outlet.written()] == [2]
    assert (pending, outlet.num_pending) == (1, 0)
    assert [row.seq for row in rows(outlet)] == [0, 1]
    assert [event.batch for event in outlet.past_events()] == [0]
    outlet.close()


def test_batches_are_told_as_they_come_back(tmp_path):
    """The order of the output is the export's business, so none waits for another."""
    outlet = opened(tmp_path)
    for index in (2, 0, 1):
        outlet.take(*batch_of(index, index), event_of)
    outlet.flush()

    assert [written.batch.index for written in outlet.written()] == [2, 0, 1]
    assert [row.id for row in rows(outlet)] == ["0", "1", "2"]
    outlet.close()


def test_what_a_costly_stage_made_is_safe_before_the_batch_goes_on(tmp_path):
    """The memo holds what every record has become, failures included, and the event its cost."""
    outlet = opened(tmp_path)
    batch, kept = batch_of(0, 0, 1, 2)
    batch.ids, batch.records = ["0", "2"], [{"a": 0}, {"a": 2}]
    batch.failures = [Failure("1", "ask", "ValueError", "no")]
    event = BatchRemembered(0, 1.5, [])

    outlet.remember(batch, kept, "ask", event)
    outlet.flush()

    assert list(outlet.written()) == [(batch, event, None)]
    memos = [unpack_memo(memo) for memo in outlet._run.store.memos()]
    assert [(task, row.id, list(row.outputs)) for task, row in memos] == [
        ("ask", "0", [("0", {"a": 0})]),
        ("ask", "1", []),
        ("ask", "2", [("2", {"a": 2})]),
    ]
    assert memos[1][1].failures == batch.failures
    assert list(outlet.past_events()) == [event]
    outlet.close()


def test_a_batch_that_can_not_be_remembered_goes_on_all_the_same(tmp_path):
    """A value without a form in a journal may be gone by the end; only a crash repeats it."""
    outlet = opened(tmp_path)
    batch, kept = batch_of(0, 0)
    batch.records = [{"model": object()}]

    outlet.remember(batch, kept, "ask", BatchRemembered(0, 1.5, []))
    outlet.flush()

    assert [written.batch for written in outlet.written()] == [batch]
    assert list(outlet._run.store.memos()) == []
    outlet.close()


def test_an_output_is_out_of_date_with_the_first_batch_that_comes(tmp_path):
    """Should the run die now, nobody takes the old files for the whole output."""
    outlet = opened(tmp_path)
    outlet._run.journal.commit(Group(facts={PUBLISHED: "was"}))

    outlet.take(*batch_of(0, 0), event_of)
    outlet.flush()

    assert outlet._run.store.facts()[PUBLISHED] == ""
    outlet.close()


def test_all_rows_of_the_input_are_exported(tmp_path):
    """The sink is opened, written and closed at the end, and the end of the input is known."""
    sink = Collect()
    outlet = opened(tmp_path, sink)
    for index in (1, 0):
        outlet.take(*batch_of(index, 2 * index, 2 * index + 1), event_of)
    outlet.flush()
    before = list(sink.ids)

    outlet.finish(4, lambda event: None)

    assert (before, sink.ids) == ([], ["0", "1", "2", "3"])
    assert outlet._run.store.facts()["num_items"] == "4"
    outlet.close()


def test_an_output_that_would_lack_rows_is_not_published(tmp_path):
    """Rows that the journal does not have are a defect, and never a shorter output."""
    sink = Collect()
    outlet = opened(tmp_path, sink)
    outlet.take(*batch_of(0, 0, 1), event_of)
    outlet.flush()

    with pytest.raises(RunError, match="the input has 3 rows and the journal 2"):
        outlet.finish(3, lambda event: None)

    assert sink.ids == []
    outlet.close()


def test_an_aborted_run_commits_what_was_taken_and_says_how_it_goes_on(tmp_path):
    """What is told to be safe is."""
    outlet = opened(tmp_path)
    outlet.take(*batch_of(0, 0, 1), event_of)

    told = outlet.abort()

    assert told == (
        f"2 records safe in {str(tmp_path)!r}; run it again with run_dir={str(tmp_path)!r}"
    )
    outlet.close()
    assert outlet.abort() == ""


def test_a_disk_that_refuses_ends_the_run(tmp_path):
    """The next look raises what the disk said, nothing later counts, and the folder is let go."""
    outlet = opened(tmp_path)
    outlet.take(*batch_of(0, 0), event_of)
    outlet.flush()
    outlet._run.journal.store.commit = partial(_refuse, "disk full")

    outlet.take(*batch_of(1, 1), event_of)
    with pytest.raises(JournalError, match="disk full"):
        outlet.flush()
    with pytest.raises(JournalError, match="disk full"):
        list(outlet.written())
    told = outlet.abort()
    with pytest.raises(JournalError, match="disk full"):
        outlet.close()

    assert told.startswith("1 record safe in ")
    assert holder(tmp_path) is None


def _refuse(message, group):
    raise JournalError(message)


def test_whoever_watches_sees_what_is_safe(tmp_path):
    """A growing file has what is done already, and each batch once it is committed."""
    for index, follow in enumerate((False, True)):
        outlet = opened(tmp_path, follow=follow)
        outlet.take(*batch_of(index, index), event_of)
        outlet.flush()
        list(outlet.written())
        outlet.close()

    lines = [json.loads(line) for line in (tmp_path / GROWING).read_text().splitlines()]
    assert [line["id"] for line in lines[1:]] == ["0", "1"]


def test_nothing_is_noted_after_the_end(tmp_path):
    """A late event would be in nobody's journal, and raises nothing."""
    outlet = opened(tmp_path)
    outlet.note(JobFinished("done"))
    outlet.close()
    outlet.note(JobFinished("late"))
    outlet.close()

    events = [json.loads(line) for line in (tmp_path / EVENTS).read_text().splitlines()]
    assert [event["outcome"] for event in events] == ["done"]


def test_a_job_that_stops_begins_nothing_with_what_is_remembered(tmp_path):
    """What a costly stage made is safe, and goes on with the next start, as urgent as it was."""
    source = FromIterable([{"id": n, "p": 3} for n in range(4)], id="id")
    options = RunOptions(run_dir=tmp_path, scheduling=Scheduling(record_priority="p"))
    pipeline = Pipeline("p").source(source).map(dict, name="ask", memo=True)
    plan = pipeline.map(dict, name="last", fuse=False).sink(Collect()).plan(batch_size=4)
    with Job(plan, options, HERE) as job:
        job.start({})
        batch = job.admit()
        batch.start = 1
        job.remember(batch)
        job.stop(RunError("enough"))
        assert job.num_pending == 1
        with pytest.raises(RunError, match="enough"):
            job.finish()

        assert job.collect() == []
    with Job(plan, options, HERE) as again:
        again.start({})
        begun = again.admit()
        assert (begun.start, begun.priority, again.admit()) == (1, 3.0, None)


def test_how_long_a_commit_took_is_told_with_the_next_one(tmp_path):
    """It is known only afterwards, and no commit of its own is worth it."""
    outlet = opened(tmp_path)
    outlet.take(*batch_of(0, 0), event_of)
    outlet.flush()
    (written,) = outlet.written()
    before = list(outlet.past_events())

    outlet.note(JobFinished("done"))
    outlet.flush()

    assert written.kept is not None
    assert written.kept.commit_s > 0
    assert [event.kind for event in before] == ["batch_committed"]
    assert list(outlet.past_events())[1:] == [written.kept, JobFinished("done")]
    outlet.close()
