"""How one record's tries go on."""

from __future__ import annotations

import pytest

from sage_dask.completion import CompletionError
from sage_dask.endpoint.failure import Broken, Busy, Fatal, Refused, Unreachable
from sage_dask.endpoint.retry import RetryBudget
from sage_dask.endpoint.tries import Limits, Tries
from sage_dask.errors import StopRun


@pytest.fixture
def tries():
    return Tries(Limits(attempts=3, max_outage_s=100.0), RetryBudget(), "m")


def after(tries, failure, *, is_down=False, is_probe=False, others_answered=False, jitter=1.0):
    """Count a try that failed; return how long to wait."""
    tries.sent += 1
    return tries.wait_after(
        failure,
        endpoint="http://gpu-0/v1",
        is_down=is_down,
        is_probe=is_probe,
        others_answered=others_answered,
        jitter=jitter,
    )


def test_broken_tries_are_bounded_by_attempts(tries):
    """The last one gives up, and the error names server, model, number and reason."""
    waits = [after(tries, Broken("500 a")), after(tries, Broken("500 b"))]

    with pytest.raises(CompletionError) as caught:
        after(tries, Broken("cut"))

    assert waits == [0.5, 1.0]
    assert "http://gpu-0/v1 (model 'm') gave no answer (3 attempts, last: cut)" in str(caught.value)
    assert caught.value.attempts == 3


@pytest.mark.parametrize(
    ("failure", "is_down"), [(Busy("503"), False), (Unreachable("no"), False), (Broken("x"), True)]
)
def test_what_the_server_is_to_blame_for_does_not_count(tries, failure, is_down):
    """A record survives any number of such tries, and has all of its own attempts left."""
    for _ in range(20):
        after(tries, failure, is_down=is_down, jitter=0.1)

    assert tries.budget.statistics() == (0, 0)
    after(tries, Broken("500"), jitter=0.0)
    after(tries, Broken("500"), jitter=0.0)
    with pytest.raises(CompletionError, match="23 attempts"):
        after(tries, Broken("500"))


def test_a_record_that_breaks_probes_fails_though_the_server_counts_as_down(tries):
    """It may be why the server counts as down; so it ends after its attempts, without a budget."""
    after(tries, Broken("reset"), is_down=True, is_probe=True)
    after(tries, Unreachable("refused"), is_down=True, is_probe=True)
    after(tries, Broken("reset"), is_down=True, is_probe=True)

    assert tries.budget.statistics() == (0, 0)
    with pytest.raises(CompletionError, match="4 attempts, last: reset"):
        after(tries, Broken("reset"), is_down=True, is_probe=True)


def test_waits_for_a_downed_server_stay_short(tries):
    """The breaker sets the pace; a record adds no long wait of its own to an outage."""
    waits = [after(tries, Unreachable("no"), is_down=True) for _ in range(9)]

    assert waits == [0.5] * 9


def test_a_busy_server_is_asked_ever_less_often_and_no_sooner_than_it_wants(tries):
    """Waits grow, and what Retry-After asked for comes on top."""
    assert [after(tries, Busy("429")) for _ in range(4)] == [0.5, 1.0, 2.0, 4.0]
    assert after(tries, Busy("429", 60.0), jitter=0.0) == 60.0


def test_a_wish_of_hours_is_no_wait_of_this_record_alone(tries):
    """It concerns all records, so it is the quota's to wait for."""
    assert after(tries, Busy("429", 3600.0)) == 0.5


@pytest.mark.parametrize(("others_answered", "kind"), [(True, CompletionError), (False, StopRun)])
def test_patience_ends_for_the_record_or_for_the_run(tries, others_answered, kind):
    """Turned away for too long, a record fails if others were answered; else the run stops."""
    # 0.5, 1, 2, 4, 8, 16, 20, 20 and 20 s of waiting are less than the 100 s of patience.
    for _ in range(9):
        after(tries, Busy("429 full"), others_answered=others_answered)

    with pytest.raises(kind, match=r"turned this request away 10 times.*last: 429 full"):
        after(tries, Busy("429 full"), others_answered=others_answered)


def test_the_budget_of_all_records_bounds_the_retries_of_one():
    """When others used it up, a broken try is not repeated, and the error says why."""
    budget = RetryBudget()
    while budget.take():
        pass

    with pytest.raises(CompletionError, match="10 repeats for 0 answers"):
        after(Tries(Limits(), budget), Broken("500"))


@pytest.mark.parametrize("is_down", [True, False])
def test_what_no_retry_mends_is_told_at_once(tries, is_down):
    """A refusal fails the record, a fatal answer the run; both keep the server's words."""
    with pytest.raises(CompletionError, match="refused the request: 400 too long; shorten"):
        after(tries, Refused("400 too long"), is_down=is_down)
    with pytest.raises(StopRun, match=r"gpu-0/v1 \(model 'm'\): 401 no; use a key"):
        after(tries, Fatal("401 no", "use a key"), is_down=is_down)
