"""A run's folder as a start finds and leaves it."""

from __future__ import annotations

import pytest

from sage_dask import Collect, Failure, FromIterable, Pipeline
from sage_dask.durable.run_folder import (
    EVENTS,
    NUM_ITEMS,
    PIPELINE,
    PUBLISHED,
    RunFolder,
    taken_back,
)
from sage_dask.errors import PlanError, RunError
from sage_dask.event_file import read_events
from sage_dask.events import BatchCommitted, JobFinished, RecordsTakenBack, event_line
from sage_dask.finished import InputChangedError
from sage_dask.journal.codec import digest
from sage_dask.journal.entries import Group
from sage_dask.journal.lock import holder
from sage_dask.journal.rows import Row, pack, pack_memo
from sage_dask.journal.store import CorruptJournalError, JournalError
from sage_dask.launch import Launch
from sage_dask.options import Resuming, RunOptions
from sage_dask.report import Report


@pytest.fixture(params=["sqlite", "segments"])
def path(request, tmp_path):
    """Lend a folder on a local disk, or one that looks as on a network file system."""
    if request.param == "segments":
        (tmp_path / "journal").mkdir()
    return tmp_path


def numbers(*places):
    """Return a source of records {"id": n}."""
    return FromIterable([{"id": n} for n in places], id="id")


def doubled(record):
    """Double a number."""
    return {**record, "double": 2 * record["id"]}


def tripled(record):
    """Triple it instead."""
    return {**record, "double": 3 * record["id"]}


def plan_of(source=None, function=doubled):
    """Return a plan of two tasks, of which the first is remembered."""
    source = source or numbers(*range(6))
    pipeline = Pipeline("p").source(source).map(function, name="work", memo=True)
    return pipeline.map(dict, name="last", fuse=False).sink(Collect()).plan()


def opened(path, plan=None, launch=None, **resuming):
    """Return a run folder as a start finds it."""
    options = RunOptions(run_dir=path, resuming=Resuming(**resuming), launch=launch)
    return RunFolder(path, plan or plan_of(), options)


def row(n, **fate):
    """Return the row of a record {"id": n}, done."""
    fate = fate or {"outputs": [(str(n), {"id": n})]}
    return Row(n, str(n), digest({"id": n}), **fate)


def failed(n, record_id=""):
    """Return the row of a record that failed."""
    failure = Failure(str(n), "work", "ValueError", "no", record={"id": n})
    known = (None, b"") if record_id is None else (str(n), digest({"id": n}))
    return Row(n, *known, failures=[failure])


def begin(path, rows=(), memos=(), facts=()):
    """Begin a run that has done some rows and begun others, and is gone."""
    run = opened(path)
    run.journal.commit(Group([pack(each) for each in rows], facts=dict(facts)))
    run.journal.commit(Group(memos=[pack_memo("work", each) for each in memos]))
    run.close()


def unfinished(run, source=None):
    """Return the ids that are new for a start, and the places that are begun."""
    finished = run.finished()
    items = (source or numbers(*range(6))).read()
    new = [item.id for item in finished.unfinished(items, lambda ids: None)]
    _, begun = finished.take_begun(99) or (None, [])
    return new, [each.seq for each in begun]


def test_a_start_knows_what_earlier_ones_did(path):
    """What is done is not read again, what is begun goes on, and the rest is new."""
    begin(path, [row(0), row(3)], [row(4)])

    run = opened(path)

    assert unfinished(run) == (["1", "2", "5"], [4])
    run.close()


def test_memos_of_a_task_that_is_none_any_more_are_left_alone(path):
    """What ends with another stage now is run again rather than put in the wrong place."""
    begin(path)
    run = opened(path)
    run.journal.commit(Group(memos=[pack_memo("other", row(1)), pack_memo("last", row(2))]))

    assert unfinished(run) == (["0", "1", "2", "3", "4", "5"], [])
    run.close()


def test_another_pipeline_is_refused_with_its_difference(path):
    """Nothing is changed by the attempt, and the folder is free."""
    begin(path, [row(0)])

    with pytest.raises(PlanError, match=r"(?s)function was doubled.*--accept-changes work"):
        opened(path, plan_of(function=tripled))

    assert holder(path) is None
    opened(path).close()


def test_an_accepted_change_holds_for_later_starts(path):
    """What is done stays; what was begun by the old pipeline is begun anew, then and later."""
    begin(path, [row(0)], [row(1)])
    opened(path, plan_of(function=tripled), accept_changes=["work"]).close()

    run = opened(path, plan_of(function=tripled))

    assert unfinished(run) == (["1", "2", "3", "4", "5"], [])
    run.close()
    with pytest.raises(PlanError, match="is not as it was when the run began"):
        opened(path)


def test_accepting_a_change_that_is_none_costs_nothing(path):
    """A pipeline that is the same keeps what it has begun."""
    begin(path, [row(0)], [row(1)])

    run = opened(path, accept_changes=["work"])

    assert unfinished(run) == (["2", "3", "4", "5"], [1])
    run.close()


def test_failed_records_are_taken_back_with_their_account(path):
    """They are as if they had never been read, and the events say so in the same commit."""
    begin(path, [row(0), failed(1), failed(2, None), row(4)], facts={PUBLISHED: "was"})

    run = opened(path, retry_failed=True)

    (event,) = run.events()
    assert event == RecordsTakenBack(2, 0, 2, 0, 0, {"work: ValueError": 2})
    assert [mark.seq for mark in run.store.marks()] == [0, 4]
    assert run.store.facts()[PUBLISHED] == ""
    run.close()


def test_without_failures_nothing_is_taken_back(path):
    """An output that is published stays so."""
    begin(path, [row(0)], facts={PUBLISHED: "is"})

    run = opened(path, retry_failed=True)

    assert list(run.events()) == []
    assert run.store.facts()[PUBLISHED] == "is"
    run.close()


def test_everything_that_came_of_a_record_is_taken_back():
    """Outputs, failures, drops and what an expansion added go with the record."""
    fate = failed(1), Row(3, "3", b"", [("3/0", {})], [Failure("3/1", "s", "E", "no")], 1)

    places, event = taken_back(fate)

    assert places == [1, 3]
    assert event == RecordsTakenBack(2, 1, 2, 1, 2, {"work: ValueError": 1, "s: E": 1})


def test_the_account_is_whole_after_records_were_taken_back(path):
    """Read, written, failed and filtered add up with those that are no longer done."""
    mixed = Row(1, "1", b"", [("1/0", {})], [Failure("1/1", "s", "E", "no", record={})], 1)
    run = opened(path)
    event = BatchCommitted(0, 3, 3, 1, 1, 2, 0.1, 0.1, [], {"s: E": 1})
    run.journal.commit(Group([pack(row(0)), pack(mixed), pack(row(2))], events=[event_line(event)]))
    run.close()

    run = opened(path, retry_failed=True)
    report = Report.from_events(run.events())
    run.close()

    report.check_account()
    assert (report.num_read, report.num_written, report.num_failed) == (2, 2, 0)
    assert report.failures == {}


def test_a_grown_input_is_met_by_its_ids(path):
    """What is done and begun is found wherever it stands, and everything else is new."""
    begin(path, [row(0), row(2)], [row(3)], facts={PUBLISHED: "was", NUM_ITEMS: "4"})
    grown = numbers(9, 0, 1, 8, 2, 3, 7)

    run = opened(path, plan_of(grown), extend=True)

    assert unfinished(run, grown) == (["9", "1", "8", "7"], [5])
    assert run.store.facts()[PUBLISHED] == ""
    run.close()


def test_a_grown_input_stays_grown_for_the_next_start(path):
    """A start that dies before its end leaves one that needs not be told again."""
    begin(path, [row(0), row(1)], facts={NUM_ITEMS: "2"})
    grown = numbers(0, 5, 1, 6)
    opened(path, plan_of(grown), extend=True).close()

    run = opened(path, plan_of(grown))

    assert unfinished(run, grown) == (["5", "6"], [])
    run.close()


def test_unreadable_rows_are_read_again_in_a_grown_input(path):
    """They have no id to be found by, so they are taken back with their account."""
    begin(path, [row(0), failed(1, None)])
    grown = numbers(5, 0, 1)

    run = opened(path, plan_of(grown), extend=True)

    (event,) = run.events()
    assert (event.num_read, event.num_failed) == (1, 1)
    assert unfinished(run, grown) == (["5", "1"], [])
    run.close()


def test_an_input_that_lost_records_is_refused_and_nothing_is_moved(path):
    """The next start with the whole input finds everything in its place."""
    begin(path, [row(0), row(1)])

    with pytest.raises(InputChangedError, match="1 records that are done are not in it any more"):
        opened(path, plan_of(numbers(5, 0)), extend=True)

    run = opened(path)
    assert unfinished(run) == (["2", "3", "4", "5"], [])
    run.close()


def test_a_known_end_is_an_end(path):
    """Rows behind it are refused without ``extend``."""
    begin(path, [row(0), row(1)], facts={NUM_ITEMS: "2"})
    run = opened(path)

    with pytest.raises(InputChangedError, match="it had 2 rows, and has more"):
        unfinished(run)

    run.close()


def test_a_run_that_is_open_can_not_be_opened(path):
    """The message names the process that has it."""
    run = opened(path)

    with pytest.raises(JournalError, match=r"is in use by process \d+ on host"):
        opened(path)

    run.close()


def test_the_folder_of_a_run_without_a_journal_is_refused(tmp_path):
    """There is nothing to go on from, and nothing of it is overwritten."""
    (tmp_path / EVENTS).write_text("{}\n")

    with pytest.raises(RunError, match="holds a run without a journal, which can not go on"):
        opened(tmp_path)

    assert [path.name for path in tmp_path.iterdir()] == [EVENTS]


def test_the_way_on_is_the_command_or_the_call(path):
    """The last start's command counts; where a program started it, its folder is named."""
    advice = []
    for launch in (Launch("p.yaml", "/home", command="sage-dask resume runs/a"), None):
        run = opened(path, launch=launch)
        advice.append(run.advice)
        run.close()

    assert advice == [
        "go on with: sage-dask resume runs/a",
        f"run it again with run_dir={str(path)!r}",
    ]


def test_events_of_all_starts_are_left_in_a_file(path):
    """It is whole or the old one, and tells what the journal tells."""
    for outcome in ("SinkError", "done"):
        run = opened(path)
        run.journal.put(Group(events=[event_line(JobFinished(outcome))]), lambda error: None)
        run.close()

    assert [event.outcome for event in read_events(path / EVENTS)] == ["SinkError", "done"]
    assert not (path / f"{EVENTS}.partial").exists()


def test_events_that_can_not_be_left_lose_nothing(path):
    """The run is closed, the folder free, and the error says where they are."""
    run = opened(path)
    run.journal.commit(Group(events=[event_line(JobFinished("done"))]))
    (path / f"{EVENTS}.partial").mkdir()

    with pytest.raises(RunError, match="nothing is lost, the journal has them, too"):
        run.close()

    assert holder(path) is None


def test_an_event_that_is_none_is_told(path):
    """A journal of another version does not end in a traceback of ours."""
    run = opened(path)
    run.journal.commit(Group(events=[b'{"kind": "job_dreamt"}']))

    with pytest.raises(CorruptJournalError, match=r"event 1 of its journal is none \(KeyError"):
        list(run.events())

    run.close()


def test_a_damaged_description_is_refused(path):
    """The pipeline that began the run is not known, so nobody can say that it is the same."""
    begin(path, facts={PIPELINE: "{"})

    with pytest.raises(PlanError, match="is damaged"):
        opened(path)

    assert holder(path) is None
