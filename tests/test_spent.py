"""Dividing the time of a batch without a gap."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sage_dask.spent import ADMISSION, AWAY, COMMIT, Watch


def test_each_lap_goes_to_what_it_was_spent_on():
    """Time since the last lap is added to its name, also when that comes again."""
    watch = Watch(10.0)

    watch.lap(ADMISSION, 11.0)
    watch.lap(AWAY, 14.0)
    watch.lap(COMMIT, 14.5)
    watch.lap(AWAY, 16.5)

    assert watch.spent == {ADMISSION: 1.0, AWAY: 5.0, COMMIT: 0.5}


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 100))))
def test_laps_add_up_to_the_time_of_the_last(laps):
    """Whatever the order in which times are told, nothing is counted twice or lost."""
    watch = Watch(0.0)

    for what, at_s in laps:
        watch.lap(what, at_s)

    latest_s = max((at_s for _, at_s in laps), default=0.0)
    assert abs(sum(watch.spent.values()) - latest_s) < 1e-9
