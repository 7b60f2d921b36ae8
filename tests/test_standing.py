"""How far a job is: counts, notes, and who hears of them."""

from __future__ import annotations

from sage_dask.endpoint.usage import Usage
from sage_dask.events import BatchCommitted
from sage_dask.report import ReportBuilder
from sage_dask.standing import Standing
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
    standing.stop()
    standing.note("a", None)

    assert [(p.notes, p.elapsed_s) for p in told] == [(("down", "before"), 2.0), (("down",), 2.0)]


def test_an_observer_may_leave_a_note():
    """A note from within the observer is told after it, and nothing stands still."""
    told = []

    def observe(progress):
        told.append(progress.notes)
        standing.note("observer", "saw it")

    standing = Standing("p", None, Usage(), observe)
    standing.start(0.0)

    standing.count(written(1))

    assert told == [(), ("saw it",)]


def test_what_a_job_ended_with_is_all_that_is_told_afterwards():
    """The report is the one that the user gets, at the time the job took; nothing holds it up."""
    clock, builder = FakeClock(10.0), ReportBuilder()
    standing = Standing("p", 4, Usage(), builder=builder, clock=clock)
    standing.start(10.0)
    standing.note("server", "down")
    clock.advance(2.0)
    event = written(4, elapsed_s=2.0)
    builder.add(event)
    standing.count(event)
    before = standing.progress()

    standing.stop()
    report = builder.report()
    standing.conclude(report)
    clock.advance(60.0)
    after = standing.progress()

    assert (before.elapsed_s, before.notes) == (2.0, ("down",))
    assert after.report is report
    assert (after.num_read, after.elapsed_s, after.notes) == (4, 2.0, ())
    assert sum(after.latencies.values()) == 4
