"""Throughput and latency over time: a line per job, of which only new points are sent."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile

from sage_dask.dashboard.board import JobView, Point

MOST_JOBS = 8

# What the time axis may span, and seconds between its labels.
_SPANS = ((60.0, 15.0), (120.0, 30.0), (300.0, 60.0), (600.0, 120.0))

Columns = Mapping[str, Sequence[float]]


def columns(points: Iterable[Point]) -> Columns:
    """Return points as columns of a plot."""
    rows = list(points)
    return {
        "at": [point.at_s for point in rows],
        "rate": [point.rate for point in rows],
        "p50": [point.p50_s for point in rows],
        "p99": [point.p99_s for point in rows],
    }


def newer(points: Sequence[Point], than_s: float) -> Sequence[Point]:
    """Return the points after a time, of points in their order."""
    return list(takewhile(lambda point: point.at_s > than_s, reversed(points)))[::-1]


@dataclass(frozen=True, slots=True)
class Window:
    """The time that is shown."""

    start_s: float
    end_s: float
    ticks: Sequence[float]
    """Where the time axis is labelled, from the end backwards."""


@dataclass(frozen=True, slots=True)
class LatencyAxis:
    """What the latency axis spans, in seconds."""

    least_s: float
    most_s: float

    @property
    def ticks(self) -> Sequence[float]:
        """Where it is labelled: at one, two and five of each power of ten."""
        decades = range(
            math.floor(math.log10(self.least_s)), math.ceil(math.log10(self.most_s)) + 1
        )
        marks = [float(f"{digit}e{decade}") for decade in decades for digit in (1, 2, 5)]
        return [mark for mark in marks if self.least_s <= mark <= self.most_s]


def latency_axis(jobs: Sequence[JobView], since_s: float) -> LatencyAxis:
    """Return an axis that has all latencies; its ends have one digit, so that it stays as it is.

    Args:
        jobs: Those that have lines.
        since_s: Where the time axis begins.
    """
    seen = [
        seconds
        for job in jobs
        for point in newer(job.points, since_s)
        for seconds in (point.p50_s, point.p99_s)
        if seconds > 0
    ]
    if not seen:
        return LatencyAxis(0.1, 10.0)
    least_s, most_s = _one_digit(min(seen), math.floor), _one_digit(max(seen), math.ceil)
    # A line along the very edge would be cut in half.
    return LatencyAxis(0.95 * least_s, 1.05 * most_s)


def _one_digit(seconds: float, to_whole: Callable[[float], int]) -> float:
    size = 10.0 ** math.floor(math.log10(seconds))
    return to_whole(seconds / size) * size


def window(jobs: Sequence[JobView], now_s: float) -> Window | None:
    """Return the shortest window that has all points; None where no point is recent enough.

    Args:
        jobs: Those that have lines.
        now_s: When it ends.
    """
    ages_s = [
        now_s - job.points[0].at_s
        for job in jobs
        if job.points and now_s - job.points[-1].at_s < _SPANS[-1][0]
    ]
    if not ages_s:
        return None
    fitting = (each for each in _SPANS if each[0] >= max(ages_s))
    width_s, step_s = next(fitting, _SPANS[-1])
    ticks = [now_s - step_s * index for index in range(int(width_s / step_s) + 1)]
    return Window(now_s - width_s, now_s, ticks)
