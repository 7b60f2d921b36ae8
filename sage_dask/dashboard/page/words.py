"""How figures are written on the page; what nobody knows is a dash."""

from __future__ import annotations

import math

from sage_dask.metrics import clock_time, duration

UNKNOWN = "\u2013"


def rate(per_second: float) -> str:
    """Return a rate: ``0``, ``0.4``, ``12.5``, ``1,280``."""
    if not per_second:
        return "0"
    return f"{per_second:,.1f}" if abs(per_second) < 99.95 else f"{per_second:,.0f}"


def share(part: float | None) -> str:
    """Return a share as a percentage."""
    return UNKNOWN if part is None else f"{part:.0%}"


def fine_share(part: float) -> str:
    """Return a share as a percentage with one decimal, so that small ones differ from none."""
    return f"{part:.1%}"


def milliseconds(seconds: float) -> str:
    """Return a duration in milliseconds to three digits or so, without the unit.

    >>> [milliseconds(seconds) for seconds in (0.0000424, 0.00423, 0.0423, 12.3)]
    ['0.042', '4.23', '42.3', '12,300']
    """
    ms = 1000 * seconds
    size = abs(ms)
    digits = 3 if size < 1 else 2 if size < 10 else 1 if size < 100 else 0
    return f"{ms:,.{digits}f}"


def seconds(value: float | None) -> str:
    """Return a latency in the unit that reads best."""
    return UNKNOWN if value is None or math.isnan(value) else duration(value)


def clock(value: float | None) -> str:
    """Return a time to go as a clock shows it."""
    return UNKNOWN if value is None else clock_time(value)


def lasting(value: float) -> str:
    """Return for how long something has been so: coarser the longer, so that words stay the same.

    >>> [lasting(value) for value in (0.3, 12.7, 200, 7300, 200_000)]
    ['0 s', '12 s', '3 min', '2 h', '2 d']
    """
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if value >= size:
            return f"{value // size:.0f} {unit}"
    return f"{value // 1:.0f} s"


def ago(value: float) -> str:
    """Return how long ago something was."""
    return f"{lasting(value)} ago" if value >= 1 else "now"


def amount(value: float | None) -> str:
    """Return slots or requests, of which there may be fractions."""
    return UNKNOWN if value is None else f"{value:,.4g}" if value < 1000 else f"{value:,.0f}"
