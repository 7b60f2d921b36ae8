"""One record followed through the events of a run."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sage_dask import spent
from sage_dask.events import (
    BatchCommitted,
    BatchFormed,
    BatchKept,
    BatchRemembered,
    JobFinished,
    JobStarted,
)
from sage_dask.journal.rows import Row
from sage_dask.life.facts import BEGUN, CUT_OFF, DROPPED, FAILED, WRITTEN, Remembered
from sage_dask.life.fold import LifeBuilder
from sage_dask.record import Failure, StageTiming, TaskTiming


def started(job="1234abcd", task_names=("embed", "generate")):
    """Return the start of a job."""
    return JobStarted(
        "rag",
        job,
        "on 1 Dask node, 1 thread",
        ["n"],
        1,
        {},
        ["embed", "generate"],
        "2026-01-01T00:00:00+00:00",
        task_names=list(task_names),
    )


def task(name, seconds=1.0, **waits):
    """Return a task of one stage of the same name."""
    return TaskTiming(name, "n", seconds, 0.0, (StageTiming(name, seconds, 2, 2),), waits)


def committed(batch=0, latency_s=2.0, elapsed_s=3.0, tasks=(), **facts):
    """Return the commit of a batch of two records."""
    counts = {"num_read": 2, "num_written": 2, "num_failed": 0, "num_filtered": 0}
    facts = {**counts, "num_expanded": 0, "spent": {spent.HERE: latency_s}, **facts}
    return BatchCommitted(
        batch=batch, latency_s=latency_s, elapsed_s=elapsed_s, tasks=tasks, failures={}, **facts
    )


def life(record_id, *events, rows=None):
    """Return a record's life."""
    builder = LifeBuilder(record_id)
    for event in events:
        builder.add(event)
    return builder.life(rows)


def test_a_record_that_was_written():
    """Where it was, when, and how long."""
    told = life("b", started(), BatchFormed(0, 1.0, ["a", "b"]), committed())

    (passage,) = told.passages
    assert told.is_known
    assert (passage.start, passage.job, passage.batch, passage.num_records) == (1, "1234abcd", 0, 2)
    assert (passage.end, passage.read_s, passage.done_s, passage.latency_s) == (WRITTEN, 1, 3, 2)


def test_other_batches_are_not_its_own():
    """A batch of the same number in another start is another batch."""
    told = life(
        "b",
        started("1"),
        BatchFormed(0, 1.0, ["a", "b"]),
        committed(tasks=[task("embed")]),
        JobFinished("KeyboardInterrupt"),
        started("2"),
        BatchFormed(0, 1.0, ["c", "d"]),
        committed(tasks=[task("generate")]),
    )

    assert [[each.task for each in passage.tasks] for passage in told.passages] == [["embed"]]


@pytest.mark.parametrize(
    ("facts", "end", "failure"),
    [
        ({"failed": {"b": "rerank: ValueError: no"}}, FAILED, "rerank: ValueError: no"),
        ({"failed": {"a": "rerank: ValueError: no"}}, WRITTEN, ""),
        ({"filtered": ["b"]}, DROPPED, ""),
        ({"filtered": ["a"]}, WRITTEN, ""),
    ],
)
def test_the_fate_is_the_records_own(facts, end, failure):
    """What happened to others of its batch is not told of it."""
    (passage,) = life("b", started(), BatchFormed(0, 1.0, ["a", "b"]), committed(**facts)).passages

    assert (passage.end, passage.failure) == (end, failure)


def test_a_commit_that_is_told_later_belongs_to_the_latency():
    """The record is safe once its batch is, and its parts add up to that."""
    told = life(
        "b",
        started(),
        BatchFormed(0, 1.0, ["a", "b"]),
        committed(is_kept=False),
        BatchFormed(1, 3.0, ["c"]),
        BatchKept(0, 0.5),
    )

    (passage,) = told.passages
    assert (passage.end, passage.done_s, passage.latency_s) == (WRITTEN, 3.5, 2.5)
    assert passage.seconds(spent.COMMIT) == 0.5


def test_a_batch_whose_commit_nobody_told_of_is_done_all_the_same():
    """A start that was killed just then had committed it: its event is there."""
    told = life("b", started(), BatchFormed(0, 1.0, ["b"]), committed(is_kept=False), started("2"))

    assert [passage.end for passage in told.passages] == [WRITTEN]


def test_what_is_under_way_has_keys_of_tasks_that_are_not_done():
    """The scheduler knows tasks by name, job and batch; those remembered are over."""
    events = [started(), BatchFormed(7, 1.0, ["b"])]
    remembered = BatchRemembered(7, 2.0, [task("embed")])

    (before,), (after,) = life("b", *events).passages, life("b", *events, remembered).passages

    assert before.end == after.end == BEGUN
    assert before.keys == ("('embed-1234abcd', 7)", "('generate-1234abcd', 7)")
    assert after.keys == ("('generate-1234abcd', 7)",)
    assert after.remembered == (Remembered("embed", 2.0),)
    assert (before.news_s, after.news_s) == (1.0, 2.0)


def test_without_a_scheduler_there_are_no_keys():
    """A run in one process has nobody to ask."""
    (passage,) = life("b", started(task_names=()), BatchFormed(7, 1.0, ["b"])).passages

    assert passage.keys == ()


@pytest.mark.parametrize(
    ("between", "stopped_by"), [([JobFinished("Terminated")], "Terminated"), ([], "")]
)
def test_a_start_that_ends_cuts_off_what_is_under_way(between, stopped_by):
    """Whether somebody said why, or it was killed; the next start takes the record on again."""
    told = life(
        "b",
        started("1"),
        BatchFormed(0, 1.0, ["a", "b"]),
        *between,
        started("2"),
        BatchFormed(3, 0.5, ["b"]),
        committed(3),
    )

    first, second = told.passages
    assert (first.end, first.stopped_by, first.start) == (CUT_OFF, stopped_by, 1)
    assert (second.end, second.batch, second.start) == (WRITTEN, 3, 2)


def test_a_part_is_told_by_its_root():
    """Expansions name parts after their record, at any depth."""
    told = life("b/0/12", started(), BatchFormed(0, 1.0, ["b"]), committed(num_expanded=3))

    assert (told.asked, told.record) == ("b/0/12", "b")
    assert told.passages[0].is_partial


def test_a_record_that_has_a_slash_is_no_part():
    """The longest id that was read is meant."""
    told = life("b/0", started(), BatchFormed(0, 1.0, ["b", "b/0"]), committed())

    assert told.record == "b/0"


def test_a_repeated_id_is_refused_and_its_first_record_goes_on():
    """The later row never set out, and does not make the first one a failure."""
    message = "read: DuplicateIdError: id 'b' was read before"
    told = life(
        "b",
        started(),
        BatchFormed(0, 1.0, ["a", "b"]),
        committed(),
        BatchFormed(1, 2.0, ["c"]),
        committed(1, failed={"b": message}),
    )

    assert [passage.end for passage in told.passages] == [WRITTEN]
    assert told.refusals == (message,)


def test_the_journal_knows_what_older_events_do_not():
    """A record of a run whose events tell no ids is known by its row."""
    row = Row(0, "b", b"", [("b/0", {}), ("b/1", {})], [Failure("b/2", "s", "E", "m", 2)], 1)

    told = life("b", started(), committed(), rows={"b": row})

    assert told.is_known
    assert not told.tells_ids
    assert told.fate.written == ("b/0", "b/1")
    assert [(each.id, each.attempts) for each in told.fate.failures] == [("b/2", 2)]


def test_what_is_not_there_is_not_known():
    """How many records were looked at is told all the same."""
    told = life("q-170", started(), BatchFormed(0, 1.0, ["q-17", "zzz"]), committed())

    assert not told.is_known
    assert told.num_read == 2


def test_the_rank_is_among_the_records_that_were_written():
    """Nine of ten batches took less; those as slow do not count as faster."""
    events = [started()]
    for batch in range(10):
        ids = [f"{batch}-a", f"{batch}-b"]
        events += [BatchFormed(batch, 0.0, ids), committed(batch, latency_s=1.0 + batch)]

    told = life("9-b", *events)

    assert told.rank.share_below == 0.9
    assert told.rank.median_s == 5.0
    assert told.rank.num_records == 20


def test_facts_are_plain_values():
    """Programs get names and values, also of what is kept as tuples."""
    told = life("b", started(), BatchFormed(0, 1.0, ["b"]), committed(tasks=[task("embed")]))

    (passage,) = told.as_dict()["passages"]

    assert passage["tasks"][0]["stages"][0]["stage"] == "embed"
    assert passage["breakdown"]["latency_s"] == 2.0


SECONDS = st.floats(0.001, 100.0)
TASKS = st.lists(
    st.builds(
        lambda name, seconds, waits: task(name, seconds, **waits),
        st.sampled_from(["embed", "generate", "commit"]),
        SECONDS,
        st.dictionaries(
            st.sampled_from([*spent.SCHEDULER_WAITS, spent.INPUTS, spent.QUEUE]), SECONDS
        ),
    ),
    max_size=3,
)
LAPS = st.dictionaries(
    st.sampled_from([spent.ADMISSION, spent.AWAY, spent.HERE, spent.RETURN, spent.COMMIT]),
    SECONDS,
    min_size=1,
)


@given(first=TASKS, later=TASKS, laps=LAPS, commit_s=st.none() | SECONDS)
def test_the_parts_of_a_life_add_up_to_its_latency(first, later, laps, commit_s):
    """Whatever driver, scheduler and worker measured, remembered or not, told late or not."""
    latency_s = sum(laps.values())
    event = committed(
        0, latency_s, 200.0, later, spent=laps, is_kept=commit_s is None, failed={"b": "s: E: m"}
    )
    events = [started(), BatchFormed(0, 1.0, ["b"]), BatchRemembered(0, 5.0, first), event]
    if commit_s is not None:
        events.append(BatchKept(0, commit_s))

    (passage,) = life("b", *events).passages

    parts = sum(part.seconds for part in passage.breakdown.parts)
    assert passage.latency_s == pytest.approx(latency_s + (commit_s or 0.0))
    assert parts == pytest.approx(passage.latency_s)
    assert list(passage.tasks) == [*first, *later]
