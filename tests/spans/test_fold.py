"""Events as traces."""

from __future__ import annotations

from collections import Counter

from sage_dask import spent
from sage_dask.events import (
    BatchCommitted,
    BatchFormed,
    BatchKept,
    BatchRemembered,
    JobFinished,
    JobStarted,
)
from sage_dask.record import StageTiming, TaskTiming
from sage_dask.spans.fold import spans_of

BEGAN_NS = 1_767_225_600 * 10**9


def started(job="1234abcd"):
    """Return the start of a job at the turn of 2026."""
    at = "2026-01-01T01:00:00+01:00"
    return JobStarted("rag", job, "on 1 node", ["n"], 1, {"cluster": 1.5}, ["a", "b"], at)


def formed(batch=0, elapsed_s=1.0):
    """Return the reading of a batch of two records."""
    return BatchFormed(batch, elapsed_s, [f"{batch}-a", f"{batch}-b"])


def task(name):
    """Return a task of one stage that took half a second."""
    return TaskTiming(name, "n", 0.5, 0.0, (StageTiming(name, 0.5, 2, 2),))


def committed(batch=0, tasks=(), *, is_kept=True, **facts):
    """Return the commit of a batch that was admitted at 1 s and took 2 s."""
    spent_on = {spent.ADMISSION: 0.5, spent.AWAY: 1.5}
    counts = {"num_read": 2, "num_written": 2, "num_failed": 0, "num_filtered": 0}
    return BatchCommitted(
        batch=batch,
        latency_s=2.0,
        elapsed_s=3.0,
        tasks=tasks,
        spent=spent_on,
        is_kept=is_kept,
        **{**counts, "num_expanded": 0, "failures": {}, **facts},
    )


def by_name(spans):
    """Return spans by name; those of one name are a defect of the test."""
    spans = list(spans)
    assert max(Counter(span.name for span in spans).values()) == 1
    return {span.name: span for span in spans}


def seconds(span):
    """Return when a span began and ended, from the job's start."""
    return (span.start_ns - BEGAN_NS) / 1e9, (span.end_ns - BEGAN_NS) / 1e9


def test_a_start_is_a_trace_with_a_span_per_batch():
    """The batch lies where the driver saw it, and in it what was measured."""
    spans = by_name(spans_of([started(), formed(), committed(tasks=[task("a")]), _done()]))

    root, batch, of_task = spans["job rag"], spans["batch"], spans["task a"]
    assert {span.trace_id for span in spans.values()} == {root.trace_id}
    assert (root.parent_id, batch.parent_id) == (None, root.span_id)
    assert of_task.parent_id == spans["admission"].parent_id == batch.span_id
    assert spans["stage a"].parent_id == of_task.span_id
    assert (seconds(root), seconds(batch), seconds(of_task)) == ((0, 3), (1, 3), (1.5, 2))
    assert root.attributes["sage_dask.startup_s.cluster"] == 1.5
    assert batch.attributes["sage_dask.records.written"] == 2
    assert root.error is None


def test_a_run_exported_twice_makes_the_same_spans():
    """And while it goes on what is whole already; identities are each their own."""
    events = [started(), formed(), committed(tasks=[task("a"), task("b")]), formed(1), committed(1)]

    once, again = list(spans_of([*events, _done()])), list(spans_of([*events, _done()]))
    so_far = list(spans_of(events[:3]))

    assert once == again
    assert len({span.span_id for span in once}) == len(once)
    assert so_far[:-1] == once[: len(so_far) - 1]


def test_each_start_has_a_trace_of_its_own():
    """Batches of one number in two starts are two batches."""
    first = [started("1"), formed(), committed()]

    spans = list(spans_of([*first, started("2"), formed(), committed()]))

    assert len({span.trace_id for span in spans}) == 2
    assert len({span.span_id for span in spans}) == len(spans)


def test_a_commit_that_is_told_later_is_part_of_its_batch():
    """The span ends when the batch was safe; where nobody told, as far as is known."""
    events = [started(), formed(), committed(is_kept=False), formed(1)]

    told, untold = (spans_of([*events, *more]) for more in ([BatchKept(0, 0.5)], []))

    assert seconds(next(s for s in told if _is_batch(s, 0))) == (1.0, 3.5)
    assert seconds(next(s for s in untold if _is_batch(s, 0))) == (1.0, 3.0)


def test_remembered_tasks_belong_to_their_batch():
    """Both halves of its way lie in one span, in their order."""
    remembered = BatchRemembered(0, 1.5, [task("a")])

    spans = by_name(spans_of([started(), formed(), remembered, committed(tasks=[task("b")])]))

    assert spans["task a"].parent_id == spans["task b"].parent_id == spans["batch"].span_id
    assert spans["task a"].end_ns == spans["task b"].start_ns


def test_what_is_not_back_is_an_error_of_its_batch():
    """Its span ends with the latest news."""
    spans = by_name(spans_of([started(), formed(), BatchRemembered(0, 4.0, [task("a")])]))

    assert seconds(spans["batch"]) == (1.0, 4.0)
    assert "not back" in spans["batch"].error
    assert spans["job rag"].attributes["sage_dask.outcome"] == "unfinished"


def test_a_job_that_broke_says_of_what():
    """A budget is no error, and neither is a failed record."""
    broken, budget = (
        list(spans_of([started(), formed(), committed(failures={"a: E": 1}), end]))
        for end in (JobFinished("SinkError", "disk full"), JobFinished("budget reached", "spent"))
    )

    assert (broken[-1].error, broken[-1].attributes["error.type"]) == ("disk full", "SinkError")
    assert budget[-1].error is None
    assert broken[-2].attributes["sage_dask.failures"] == ["a: E"]
    assert broken[-2].error is None


def test_one_batch_in_so_many():
    """What is left out costs nothing, and the rest is as it was."""
    events = [started()]
    for batch in range(7):
        events += [formed(batch), committed(batch, [task("a")])]

    all_of_them, some = list(spans_of(events)), list(spans_of(events, every=3))

    numbers = [s.attributes["sage_dask.batch"] for s in some if s.name == "batch"]
    assert numbers == [0, 3, 6]
    assert set(map(repr, some)) <= set(map(repr, all_of_them))
    assert some[-1] == all_of_them[-1]


def _done():
    return JobFinished("done")


def _is_batch(span, number):
    return span.name == "batch" and span.attributes["sage_dask.batch"] == number
