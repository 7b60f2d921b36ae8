"""Lines over time: what is new, and what the axes span."""

from __future__ import annotations

from math import nan

import pytest

from sage_dask.dashboard.board import Point
from sage_dask.dashboard.page import series
from tests.dashboard.fake_monitor import job


def points(*times_s: float) -> tuple[Point, ...]:
    """Return points at these times."""
    return tuple(Point(at_s, 10.0, 0.5, 2.0) for at_s in times_s)


def test_only_points_after_the_last_one_are_new():
    """In their order."""
    assert series.newer(points(1, 2, 3, 4), 2.0) == list(points(3, 4))
    assert series.newer(points(1, 2), 2.0) == []


def test_columns_have_one_row_per_point():
    """Times, rates and both percentiles."""
    assert series.columns(points(1, 2)) == {
        "at": [1, 2],
        "rate": [10.0, 10.0],
        "p50": [0.5, 0.5],
        "p99": [2.0, 2.0],
    }


@pytest.mark.parametrize(
    ("age_s", "width_s"), [(20, 60), (60, 60), (61, 120), (299, 300), (500, 600), (5000, 600)]
)
def test_the_time_axis_is_as_short_as_the_oldest_point_allows(age_s, width_s):
    """A job that began just now fills the plot; ten minutes are the most."""
    window = series.window([job(points=points(10_000 - age_s, 10_000))], 10_000.0)

    assert window.end_s - window.start_s == width_s
    assert window.ticks[0] == 10_000.0
    assert window.ticks[-1] == window.start_s


def test_a_cluster_that_is_idle_for_long_has_no_time_axis():
    """So nothing moves, and nothing is sent."""
    assert series.window([job(points=points(1, 2)), job("b/1")], 10_000.0) is None


def test_the_latency_axis_has_all_that_is_shown_and_stays_while_lines_move():
    """Its ends have one digit, and it is labelled at one, two and five."""
    shown = [job(points=(Point(1, 1, 0.34, 1.1), Point(2, 1, 0.37, 1.7), Point(3, 1, nan, nan)))]

    axis = series.latency_axis(shown, 0.0)

    assert (axis.least_s, axis.most_s) == (pytest.approx(0.285), pytest.approx(2.1))
    assert axis.ticks == [0.5, 1.0, 2.0]
    assert series.latency_axis(shown, 1.0) == axis


def test_without_latencies_the_axis_is_there_all_the_same():
    """A logarithm of nothing would be an error in the browser."""
    axis = series.latency_axis([job(points=(Point(1, 1, nan, nan),))], 0.0)

    assert 0 < axis.least_s < axis.most_s
