"""When to ask again, and how often all together."""

from __future__ import annotations

import gc
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sage_dask.endpoint.retry import Backoff, RetryBudget, parse_retry_after, shared_budget

NOON = datetime(2026, 8, 1, 12, 0, 0, tzinfo=UTC)


def test_the_longest_wait_doubles_up_to_a_cap():
    """Each failed try doubles the longest wait, up to one that never grows any more."""
    waits = [Backoff().delay_s(failed, None, 1.0) for failed in (*range(1, 9), 5_000)]

    assert waits == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 20.0, 20.0, 20.0]


def test_jitter_spreads_over_the_whole_wait():
    """Full jitter: the wait is anything from nothing to the longest."""
    assert Backoff().delay_s(2, None, 0.0) == 0.0
    assert Backoff().delay_s(2, None, 0.25) == 0.25


@given(
    failed=st.integers(1, 50),
    retry_after_s=st.floats(0, 1e6),
    jitter=st.floats(0, 1, exclude_max=True),
)
def test_retry_after_is_never_undercut(failed, retry_after_s, jitter):
    """The server's own wish is the least wait, and jitter spreads clients beyond it."""
    assert 0.0 <= Backoff().delay_s(failed, retry_after_s, jitter) - retry_after_s <= 20.0


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7.0),
        (" 7 ", 7.0),
        ("0", 0.0),
        ("0.5", 0.5),
        ("Sat, 01 Aug 2026 12:00:30 GMT", 30.0),
        ("Sat, 01 Aug 2026 14:00:30 +0200", 30.0),
        ("Sat, 01 Aug 2026 12:00:30 -0000", 30.0),
        ("Saturday, 01-Aug-26 12:00:30 GMT", 30.0),
        ("Sat Aug  1 12:00:30 2026", 30.0),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0),
        (None, None),
        ("", None),
        ("soon", None),
        ("-1", None),
        ("nan", None),
        ("inf", None),
        ("Sat, 99 Aug 2026 12:00:30 GMT", None),
        ("Sat, 01 Aug 99999999999 12:00:30 GMT", None),
    ],
)
def test_retry_after_is_read_as_seconds_or_as_a_date(header, seconds):
    """Both forms of the header are read; nonsense is as good as no header."""
    assert parse_retry_after(header, NOON) == seconds


@given(st.text(max_size=40))
def test_no_header_whatever_raises(header):
    """A header is the server's doing and must not fail a record."""
    seconds = parse_retry_after(header, NOON)

    assert seconds is None or 0.0 <= seconds < float("inf")


@given(st.lists(st.booleans(), max_size=400))
def test_retries_never_exceed_a_tenth_of_the_successes_and_ten(events):
    """Whatever the order of successes and wishes, the bound holds; and it is used up."""
    budget = RetryBudget()
    retries = successes = 0
    for is_success in events:
        if is_success:
            budget.succeeded()
            successes += 1
        else:
            granted = budget.take()
            assert granted == (retries + 1 <= 0.1 * successes + 10)
            retries += granted

        assert retries <= 0.1 * successes + 10
    assert budget.statistics() == (retries, successes)


def test_stages_on_the_same_servers_share_a_budget_while_they_live():
    """The order of replicas does not matter, other servers have a budget of their own."""
    budget = shared_budget(["http://a", "http://b"])

    assert shared_budget(["http://b", "http://a"]) is budget
    assert shared_budget(["http://a"]) is not budget
    budget.take()
    del budget
    gc.collect()
    assert shared_budget(["http://a", "http://b"]).statistics() == (0, 0)
