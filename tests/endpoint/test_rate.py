"""Requests and tokens per minute: never more, and nearly as many."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sage_dask.endpoint.rate import Bucket, RateLimit
from sage_dask.errors import PlanError
from sage_dask.testing import FakeClock


def limited(clock, **limits):
    return RateLimit(**limits, clock=clock, sleep=clock.sleep)


async def _take_times(limit, clock, tokens):
    """Return when each of several requests in turn may be sent."""
    times = []
    for each in tokens:
        await limit.take(each)
        times.append(clock())
    return times


@given(
    per_minute=st.floats(1, 1e5),
    events=st.lists(st.tuples(st.floats(0, 30), st.integers(1, 500)), max_size=60),
)
def test_no_minute_holds_more_than_the_limit(per_minute, events):
    """In any 60 s, what is taken before the last request stays below the limit."""
    bucket = Bucket(per_minute)
    now_s = 0.0
    taken: list[tuple[float, int]] = []
    for idle_s, amount in events:
        now_s += idle_s
        now_s += bucket.wait_s(now_s)
        bucket.take(amount, now_s)
        taken.append((now_s, amount))

        minute = [each for at_s, each in taken if at_s > now_s - 60.0]
        assert sum(minute[:-1]) <= per_minute * (1 + 1e-6)


def test_a_steady_line_gets_nearly_all_of_the_limit():
    """Ten minutes of demand get at least 99 % of what is allowed, though wake-ups are late."""
    bucket = Bucket(600.0)
    now_s, count = 0.0, 0

    while now_s < 600.0:
        wait_s = bucket.wait_s(now_s)
        now_s += wait_s + 0.03 if wait_s else 0.0
        bucket.take(1, now_s)
        count += 1

    assert 0.99 * 6_000 <= count <= 6_001


def test_without_limits_nobody_waits():
    """No limit, no line."""
    clock = FakeClock()

    assert asyncio.run(_take_times(limited(clock), clock, [10**9] * 3)) == [0.0] * 3


def test_the_scarcer_limit_decides():
    """Both buckets must have room: many small requests wait for one, a few big for the other."""
    clock = FakeClock()
    limits = {"requests_per_minute": 60, "tokens_per_minute": 6_000}

    small = asyncio.run(_take_times(limited(clock, **limits), clock, [1] * 5))
    clock = FakeClock()
    big = asyncio.run(_take_times(limited(clock, **limits), clock, [1_000] * 3))

    assert small[-1] == pytest.approx(4.0, abs=0.3)
    assert big[-1] == pytest.approx(20.0, abs=0.3)


def test_requests_go_in_order_of_arrival():
    """A small request does not overtake a big one that waits."""
    clock = FakeClock()
    limit = limited(clock, tokens_per_minute=60)
    order = []

    async def send(name, tokens):
        await limit.take(tokens)
        order.append(name)

    async def all_at_once():
        await asyncio.gather(*(send(*each) for each in [("a", 90), ("b", 50), ("c", 1), ("d", 1)]))

    asyncio.run(all_at_once())

    assert order == ["a", "b", "c", "d"]


def test_estimates_are_corrected_by_what_was_used():
    """Tokens that were not used let the next request go sooner, and further ones later."""
    waits = []
    for used in (0, 60, 120):
        clock = FakeClock()
        limit = limited(clock, tokens_per_minute=60)
        asyncio.run(limit.take(60))
        limit.correct(60, used)
        asyncio.run(limit.take(1))
        waits.append(clock())

    assert waits == pytest.approx([0.0, 60.0, 120.0], abs=0.6)


def test_a_request_that_was_not_sent_is_given_back():
    """Nobody waits for a request that was cancelled before it went out."""
    clock = FakeClock()
    limit = limited(clock, requests_per_minute=1, tokens_per_minute=10)

    asyncio.run(limit.take(10))
    limit.give_back(10)
    asyncio.run(limit.take(10))

    assert clock() == 0.0


def test_a_share_is_a_fraction_of_the_rate_and_takes_effect_at_once():
    """Who waited at a hundredth of the rate waits no longer once all of it is theirs."""
    clock = FakeClock()
    limit = limited(clock, requests_per_minute=60)
    limit.set_share(0.01)

    asyncio.run(limit.take(0))
    asyncio.run(limit.take(0))
    at_a_hundredth = clock()
    limit.set_share(1.0)
    asyncio.run(limit.take(0))

    assert at_a_hundredth == pytest.approx(100.0, abs=1.0)
    assert clock() - at_a_hundredth == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize("fraction", [0.0, -1.0, 1.5])
def test_a_share_that_is_no_fraction_is_refused(fraction):
    """Nothing would ever be sent, or more than the account allows."""
    with pytest.raises(ValueError, match="share"):
        RateLimit(clock=FakeClock()).set_share(fraction)


@pytest.mark.parametrize("name", ["requests_per_minute", "tokens_per_minute"])
def test_a_limit_of_nothing_is_refused(name):
    """None means no limit, zero would mean waiting for ever."""
    with pytest.raises(PlanError, match=f"{name}=0"):
        RateLimit(**{name: 0}, clock=FakeClock())
