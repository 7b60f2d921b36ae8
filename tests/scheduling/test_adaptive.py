"""How many requests a model server takes at once, found out by watching it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sage_dask.endpoint.gauges import Gauges
from sage_dask.endpoint.report import Outcomes
from sage_dask.errors import PlanError
from sage_dask.scheduling.adaptive import AdaptiveLimit


def watch(limit, seats, looks, *, others=0, now_s=0.0, kv=None, breath=0):
    """Have a limit watch a server that is given all it allows; return the time afterwards."""
    for _ in range(looks):
        in_flight = int(limit.limit)
        load = in_flight + others
        running = min(load - breath, seats)
        limit.observe_gauges(Gauges(running, load - running, kv), in_flight, now_s)
        now_s += limit.next_poll_s
    return now_s


def found(seats, **server):
    """Return a limit that has watched a server for a while, and the time."""
    limit = AdaptiveLimit()
    return limit, watch(limit, seats, 15, **server)


def test_it_doubles_four_times_a_second_while_the_server_has_seats():
    """From 8 to 64 takes three looks, a quarter of a second apart."""
    limit = AdaptiveLimit()

    assert limit.next_poll_s == 0.25
    watch(limit, seats=1000, looks=3)

    assert limit.limit == 64
    assert limit.reason == "32 to 64: the server is not full"


def test_when_the_server_is_full_it_becomes_what_the_server_runs():
    """At once, once the queue has lasted for two looks; afterwards a second is often enough."""
    limit = AdaptiveLimit()

    watch(limit, seats=64, looks=4)
    assert limit.limit == 128
    watch(limit, seats=64, looks=2)

    assert 64 <= limit.limit < 66
    assert limit.next_poll_s == 1.0
    assert "the server runs no more, 64 waited" in limit.reason


@pytest.mark.parametrize("seats", [1, 4, 16, 64, 256])
def test_it_stays_within_a_tenth_of_the_seats(seats):
    """But for one slot, and for the moments in which it tries whether there are more."""
    limit, now_s = found(seats)
    began_s, slot_s, slots = now_s, 0.0, []

    for _ in range(100):
        slots.append(int(limit.limit))
        slot_s += slots[-1] * limit.next_poll_s
        now_s = watch(limit, seats, 1, now_s=now_s)

    assert slot_s / (now_s - began_s) <= seats + max(0.5, 0.05 * seats)
    assert seats <= min(slots) <= max(slots) <= 1.15 * seats + 3


def test_a_full_server_is_now_and_then_given_more():
    """For a moment: nothing else shows that it has more seats than it had."""
    limit, now_s = found(64)
    raised_s = 0.0

    while now_s < 100:
        raised_s += limit.next_poll_s if limit.limit > 70 else 0.0
        now_s = watch(limit, 64, 1, now_s=now_s)

    assert 0 < raised_s < 5


def test_a_burst_of_prompts_ends_no_search():
    """A queue that the next look does not see any more was none."""
    limit = AdaptiveLimit()
    watch(limit, seats=1000, looks=1)

    limit.observe_gauges(Gauges(8, 8), 16, 0.25)
    assert limit.limit == 16
    limit.observe_gauges(Gauges(16, 0), 16, 0.5)

    assert limit.limit == 32


def test_old_gauges_do_not_run_away_with_it():
    """A raise is judged when the gauges show it, not by what they said before it."""
    limit = AdaptiveLimit()

    for look in range(5):
        limit.observe_gauges(Gauges(8, 0), int(limit.limit), 0.25 * look)

    assert limit.limit == 16


def test_without_demand_it_does_not_grow():
    """Nine tenths of the whole part have to be in use."""
    limit = AdaptiveLimit(start=20)
    for look in range(20):
        limit.observe_gauges(Gauges(17, 0), 17, look)
    assert limit.limit == 20

    limit.observe_gauges(Gauges(18, 0), 18, 20)

    assert limit.limit > 20


def test_what_is_used_of_a_fraction_is_its_whole_part():
    """At 1.9 one request is all that can be sent, and the limit goes on growing."""
    limit, now_s = found(1)
    seen = set()

    for _ in range(12):
        now_s = watch(limit, seats=2, looks=1, now_s=now_s)
        seen.add(int(limit.limit))

    assert {1, 2} <= seen


def test_a_queue_of_others_counts():
    """Ours gives way by its part of the whole, again and again, and is never starved."""
    limit, now_s = found(64)

    now_s = watch(limit, seats=64, looks=2, others=64, now_s=now_s)
    first = limit.limit
    watch(limit, seats=64, looks=40, others=64, now_s=now_s)

    assert 30 < first < 40
    assert 5 < limit.limit < 15


def test_a_cut_is_not_repeated_while_requests_drain():
    """A queue that goes away by itself was taken away already."""
    limit, now_s = found(16)
    start = limit.limit

    for in_flight in (40, 40, 39, 38, 37):
        limit.observe_gauges(Gauges(16, in_flight - 16), in_flight, now_s)
        now_s += 1

    assert start - 2 < limit.limit < start + 2


def test_a_server_that_breathes_is_filled():
    """A few always wait for the next step of the batch; they are no queue."""
    limit, now_s = found(64, breath=3)
    for _ in range(30):
        now_s = watch(limit, 64, 1, breath=3, now_s=now_s)

    assert 63 <= limit.limit < 71


def test_a_full_kv_cache_ends_the_search():
    """Sequences that were just admitted will grow."""
    limit = AdaptiveLimit()
    watch(limit, seats=1000, looks=2)

    watch(limit, seats=1000, looks=1, kv=0.95)

    assert 32 < limit.limit < 34
    assert limit.next_poll_s == 1.0


def test_seats_that_come_back_are_found_in_seconds():
    """After a while without any queue it doubles again."""
    limit, now_s = found(16)
    began_s = now_s

    while limit.limit < 64 and now_s < began_s + 60:
        now_s = watch(limit, seats=64, looks=1, now_s=now_s)

    assert now_s - began_s < 15


def test_requests_that_are_turned_away_lower_it_by_their_share():
    """By three tenths at most, and not again within a round trip."""
    limit = AdaptiveLimit(start=100)

    limit.observe_outcomes(Outcomes(ok=80, busy=20), 100, 10.0)
    assert limit.limit == 80
    limit.observe_outcomes(Outcomes(busy=90), 80, 10.5)
    assert limit.limit == 80
    limit.observe_outcomes(Outcomes(busy=90), 80, 11.5)

    assert limit.limit == 56
    assert limit.reason == "80 to 56: 90 turned away and 0 failed of 90"


def test_a_round_trip_is_as_long_as_requests_take():
    """Requests of thirty seconds that were sent before a cut do not cut again."""
    limit = AdaptiveLimit(start=64)
    for number in range(60):
        limit.observe_outcomes(Outcomes(ok=1, latency_s=30.0), 64, number)
    limit.observe_outcomes(Outcomes(busy=64), 64, 60.0)
    lowered = limit.limit

    limit.observe_outcomes(Outcomes(busy=64), 64, 80.0)
    assert limit.limit == lowered
    limit.observe_outcomes(Outcomes(busy=64), 64, 91.0)

    assert limit.limit < lowered


def test_one_failure_among_many_is_an_accident():
    """A connection is cut now and then."""
    limit = AdaptiveLimit(start=64)

    limit.observe_outcomes(Outcomes(ok=10, failed=1), 64, 10.0)

    assert limit.limit == 64


def test_after_an_outage_it_is_sought_anew():
    """Nothing came back at all, so the limit falls, and doubles as soon as something does."""
    limit, now_s = found(64)
    limit.observe_outcomes(Outcomes(failed=64), 0, now_s)
    fallen = limit.limit
    assert fallen < 50
    assert limit.next_poll_s == 0.25

    watch(limit, 64, 2, now_s=now_s + 10)

    assert limit.limit > 64


def test_without_gauges_it_grows_by_what_is_answered():
    """It doubles per round trip until something is turned away, then adds one."""
    limit = AdaptiveLimit()
    for second in range(5):
        limit.observe_outcomes(Outcomes(ok=8, latency_s=4.0), int(limit.limit), 2.0 * second)
    assert limit.limit == 128

    limit.observe_outcomes(Outcomes(ok=96, busy=32, latency_s=40.0), 128, 10.0)
    assert limit.limit == 96
    for second in range(1, 6):
        limit.observe_outcomes(Outcomes(ok=96, latency_s=40.0), int(limit.limit), 10 + 2.0 * second)

    assert 98 < limit.limit <= 101


def test_with_gauges_answers_do_not_raise_it():
    """A server that can be watched is."""
    limit, now_s = found(64)
    before = limit.limit

    for number in range(8):
        limit.observe_outcomes(Outcomes(ok=64, latency_s=26.0), 64, now_s + 0.5 * number)

    assert limit.limit == before


def test_a_ceiling_may_fall():
    """The limit falls with it."""
    limit = AdaptiveLimit(start=64)

    limit.cap(32)

    assert limit.limit == 32
    assert "AdaptiveLimit 32.0" in repr(limit)


def test_at_the_ceiling_the_search_is_over():
    """Four looks a second would be for nothing."""
    limit = AdaptiveLimit(ceiling=32)

    watch(limit, seats=1000, looks=8)

    assert limit.limit == 32
    assert limit.next_poll_s == 1.0


def test_bounds_that_cross_are_refused():
    """The message names both."""
    with pytest.raises(PlanError, match="floor 0 and ceiling 4"):
        AdaptiveLimit(floor=0, ceiling=4)


counts = st.integers(0, 200)
gauges = st.builds(
    Gauges,
    running=counts,
    waiting=counts,
    kv_usage=st.none() | st.floats(0, 1),
)
outcomes = st.builds(
    Outcomes, ok=counts, busy=counts, failed=counts, latency_s=st.floats(0, 10_000)
)


@given(
    st.lists(
        st.tuples(gauges | outcomes, counts, st.sampled_from([0.0, 0.05, 0.25, 1.0, 60.0])),
        max_size=60,
    )
)
def test_whatever_is_seen_it_stays_in_its_bounds(events):
    """And there is always a reason and a time for the next look."""
    limit = AdaptiveLimit(floor=2, ceiling=100)
    now_s = 0.0
    for seen, in_flight, later_s in events:
        now_s += later_s
        if isinstance(seen, Gauges):
            limit.observe_gauges(seen, in_flight, now_s)
        else:
            limit.observe_outcomes(seen, in_flight, now_s)

        assert 2 <= limit.limit <= 100
        assert limit.next_poll_s in (0.25, 1.0)
        assert limit.reason
