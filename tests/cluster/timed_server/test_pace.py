"""Brown-outs: how an engine's time relates to the clock's."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sage_dask.cluster.timed_server.pace import Pace


def test_at_first_both_go_alike():
    """The engine's time begins with 0."""
    assert Pace(100.0).engine_s(107.0) == 7.0


def test_a_slow_time_stretches_what_lies_in_it():
    """Ten seconds at a quarter of the pace are two and a half; then all is as before."""
    pace = Pace(0.0)
    pace.slow(4.0, 10.0, now_s=5.0)

    assert pace.clock_s(6.0) == 9.0
    assert pace.clock_s(8.0) == 15.5
    assert pace.engine_s(9.0) == 6.0
    assert pace.engine_s(15.5) == 8.0


def test_a_later_order_replaces_the_one_before():
    """Slowness neither adds up nor multiplies."""
    pace = Pace(0.0)
    pace.slow(4.0, 100.0, now_s=0.0)

    pace.slow(1.0, 0.0, now_s=8.0)

    assert pace.engine_s(10.0) == 4.0


def test_an_engine_can_stand_still():
    """At an infinite factor nothing is ever due before the time is over."""
    pace = Pace(0.0)
    pace.slow(math.inf, 10.0, now_s=2.0)

    assert pace.engine_s(9.0) == 2.0
    assert pace.clock_s(3.0) == 13.0


@pytest.mark.parametrize(("factor", "for_s"), [(0.0, 1.0), (-1.0, 1.0), (2.0, -1.0), (math.nan, 1)])
def test_nonsense_is_refused(factor, for_s):
    """Time does not go backwards."""
    with pytest.raises(ValueError, match="brown-out"):
        Pace(0.0).slow(factor, for_s, 0.0)


@given(
    slows=st.lists(st.tuples(st.floats(0, 5), st.floats(0.1, 8), st.floats(0, 5)), max_size=5),
    ahead_s=st.floats(0.001, 20),
)
def test_both_ways_agree(slows, ahead_s):
    """When the clock shows what was foretold, the engine's time has come."""
    pace, now_s = Pace(0.0), 0.0
    for gap_s, factor, for_s in slows:
        now_s += gap_s
        pace.slow(factor, for_s, now_s)
    due_s = pace.engine_s(now_s) + ahead_s

    assert pace.engine_s(pace.clock_s(due_s)) == pytest.approx(due_s)
