"""When a server counts as busy as before."""

from __future__ import annotations

import math

from sage_dask.experiments.llm.recovery import recovery_s


def looks_of(rates, every_s=0.5):
    """Return looks at a count that grows by so many per second, each rate for a second."""
    looks, count = [(0.0, {"answered": 0.0})], 0.0
    for second, rate in enumerate(rates):
        for part in (1, 2):
            count += rate * every_s
            looks.append((second + part * every_s, {"answered": count}))
    return looks


def test_a_server_that_is_as_busy_at_once_took_no_time():
    """Nothing is added for the window in which it is judged."""
    looks = looks_of([100] * 20 + [20] * 10 + [100] * 10)

    assert recovery_s(looks, 20.0, 30.0) == 0.0


def test_the_time_ends_where_two_seconds_are_as_good_as_before():
    """Three seconds at half the rate; of the window from 2.5 s on, three quarters are good."""
    looks = looks_of([100] * 20 + [0] * 10 + [50] * 3 + [100] * 10)

    assert recovery_s(looks, 20.0, 30.0) == 3.0


def test_a_tenth_less_is_as_good_as_before():
    """Answers do not come evenly to a tenth."""
    assert recovery_s(looks_of([100] * 20 + [0] * 10 + [91] * 10), 20.0, 30.0) == 0.0
    assert recovery_s(looks_of([100] * 20 + [0] * 10 + [89] * 10), 20.0, 30.0) == math.inf


def test_looks_that_are_missing_do_no_harm():
    """A server that is gone does not say how many it has answered."""
    looks = [look for look in looks_of([100] * 20 + [0] * 12 + [100] * 9) if not 20 < look[0] < 32]

    assert recovery_s(looks, 20.0, 30.0) == 2.0
