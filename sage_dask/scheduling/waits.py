"""What waiting tasks wait for: clocks that run by reason; a wait is two readings apart.

All tasks of a line wait for the same thing at the same time, so one clock serves
them all, and no task is touched while it waits.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from sage_dask.spent import GATE, NODE, POLICY, QUOTA, SCHEDULER_WAITS, SCHEDULING

__all__ = ["GATE", "NODE", "POLICY", "QUOTA", "SCHEDULING", "Reading", "WaitClock", "between"]

# Seconds by reason, in the order of ``SCHEDULER_WAITS``; only differences mean anything.
Reading: TypeAlias = tuple[float, ...]

ZERO: Reading = (0.0,) * len(SCHEDULER_WAITS)

_PLACES = {reason: place for place, reason in enumerate(SCHEDULER_WAITS)}


class WaitClock:
    """Seconds by reason; one reason at a time."""

    __slots__ = ("_place", "_seconds", "_since_s")

    def __init__(self) -> None:
        self._place = _PLACES[SCHEDULING]
        self._seconds = list(ZERO)
        self._since_s = 0.0

    def turn(self, reason: str, now_s: float) -> None:
        """Count by a reason from now on."""
        self._seconds[self._place] += now_s - self._since_s
        self._since_s = now_s
        self._place = _PLACES[reason]

    def read(self, now_s: float) -> Reading:
        """Return the seconds by reason up to now."""
        self._seconds[self._place] += now_s - self._since_s
        self._since_s = now_s
        return tuple(self._seconds)


def between(start: Reading, end: Reading) -> Mapping[str, float]:
    """Return the seconds by reason between two readings; reasons that took none are left out."""
    return {
        reason: after - before
        for reason, before, after in zip(SCHEDULER_WAITS, start, end, strict=True)
        if after > before
    }


def plus(one: Reading, other: Reading) -> Reading:
    """Return two readings added up."""
    return tuple(a + b for a, b in zip(one, other, strict=True))


def minus(one: Reading, other: Reading) -> Reading:
    """Return what one reading has more than another."""
    return tuple(a - b for a, b in zip(one, other, strict=True))
