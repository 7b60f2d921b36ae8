"""How far a job is: counts, notes, and who hears of them."""

from __future__ import annotations

from sage_dask.endpoint.usage import Usage
from sage_dask.events import BatchCommitted, JobFinished
from sage_dask.report import ReportBuilder
from sage_dask.scheduling.gate import GateStatistics
from sage_dask.standing import RUNNING, Standing
from sage_dask.testing import FakeClock


def written(num_read: int, elapsed_s: float = 0.0) -> BatchCommitted:
    """Return the event of a batch of which everything was written."""
    return BatchCommitted(0, num_read, num_read, 0, 0, 0, 0.0, elapsed_s, [], {})


def test_each_batch_is_told_with_what_was_spent():
    """The observer hears the sum of all batches, and what they cost by then."""
    usage, told = Usage(), []
    standing = Standing("p", 10, usage, told.append)
    standing.start(0.0)

    standing.count(written(3, elapsed_s=1.0))
    usage.add(Usage(prompt_tokens=5, completion_tokens=2, cost=0.5))
    standing.count(written(4, elapsed_s=2.0))

    assert [(p.num_read, p.tokens, p.cost, p.elapsed_s) for p in told] == [
        (0, 0, 0.0, 0.0),
        (3, 0, 0.0, 1.0),
        (7, 7, 0.5, 2.0),
    ]


def test_a_note_is_told_when_it_changes_and_only_while_the_job_runs():
    """Notes come and go in the order of their sources; before and after the run nobody hears."""
    clock, told = FakeClock(10.0), []
    standing = Standing("p", None, Usage(), told.append, clock=clock)
    standing.note("b", "before")
    standing.start(10.0)
    clock.advance(2.0)

    standing.note("a", "down")
    standing.note("a", "down")
    standing.note("b", None)
    standing.end(ReportBuilder().report())
    standing.note("a", None)

    assert [(p.notes, p.elapsed_s) for p in told] == [
        (("before",), 0.0),
        (("down", "before"), 2.0),
        (("down",), 2.0),
        ((), 2.0),
    ]


def test_an_observer_may_leave_a_note():
    """A note from within the observer is told after it, and nothing stands still."""
    told = []

    def observe(progress):
        told.append(progress.notes)
        standing.note("observer", "saw it")

    standing = Standing("p", None, Usage(), observe)
    standing.start(0.0)

    standing.count(written(1))

    assert told == [(), ("saw it",), ("saw it",)]


def test_the_last_news_has_the_outcome_and_comes_once():
    """Whoever shows a job learns that it is over, and hears of it no more."""
    told, builder = [], ReportBuilder()
    standing = Standing("p", None, Usage(), told.append, job="1f", builder=builder)
    standing.start(0.0)

    builder.add(JobFinished("done"))
    standing.end(builder.report())
    standing.end(builder.report())

    assert [(p.job, p.outcome) for p in told] == [("1f", "running"), ("1f", "done")]


def test_time_stands_still_after_the_end():
    """Whoever asks later hears how long it took, and not how long ago that was."""
    clock = FakeClock(10.0)
    standing = Standing("p", None, Usage(), clock=clock)
    standing.start(10.0)
    clock.advance(5.0)

    standing.end(ReportBuilder().report())
    clock.advance(100.0)

    assert standing.progress().elapsed_s == 5.0


def test_an_observer_that_fails_at_the_end_undoes_nothing(caplog):
    """The job is over; what the observer raised is logged."""

    def observe(progress):
        if progress.outcome != RUNNING:
            raise ZeroDivisionError

    builder = ReportBuilder()
    standing = Standing("p", None, Usage(), observe, builder=builder)
    standing.start(0.0)

    builder.add(JobFinished("done"))
    standing.end(builder.report())

    assert "observer of 'p' failed at its end" in caplog.text


def test_gates_and_servers_are_told_when_they_change_and_not_too_often():
    """News within a quarter of a second wait for whatever is told next."""
    clock, told = FakeClock(10.0), []
    standing = Standing("p", None, Usage(), told.append, clock=clock)
    standing.start(10.0)

    for held in (1, 1, 2, 3):
        standing.show_load({"llm": GateStatistics(4, held)}, {})
    clock.advance(1.0)
    standing.show_load({"llm": GateStatistics(4, 4)}, {})
    standing.show_load({"llm": GateStatistics(4, 4)}, {})

    assert [p.gates["llm"].held for p in told[1:]] == [1, 4]
