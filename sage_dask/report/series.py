"""How a job went over time: a fold over its events in bounded memory, however long it was.

Time is divided into slots.  Once there would be too many of them, all become twice
as wide, and neighbours are merged.  Time is that of the makespan: starts of a run
follow one another without the pauses between them.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from sage_dask.events import BatchCommitted, BatchKept, BatchRemembered, Event, JobStarted
from sage_dask.sketch import Sketch

MOST_SLOTS = 600

# Twenty slots a second at first: half a minute until they are merged.
_FIRST_WIDTH_S = 0.05

# Beginnings of starts that are kept, the latest of them.
_MOST_STARTS = 100


@dataclass(frozen=True, slots=True)
class Point:
    """What was done in one stretch of time."""

    from_s: float
    to_s: float
    num_written: int
    num_failed: int
    p50_s: float
    """Median latency of the records written then; not a number where none was."""
    p99_s: float

    @property
    def rate(self) -> float:
        """Records written per second."""
        return self.num_written / (self.to_s - self.from_s)


@dataclass(frozen=True, slots=True)
class Series:
    """How a job went over time."""

    points: Sequence[Point] = ()
    starts_s: Sequence[float] = ()
    """When starts after the first began."""
    distribution: Sequence[tuple[float, float]] = ()
    """Seconds of latency, to one per cent, and the share of records that took no longer."""


@dataclass(slots=True)
class _Slot:
    num_written: int = 0
    num_failed: int = 0
    latencies: Sketch = field(default_factory=Sketch)

    def add(self, other: _Slot) -> None:
        self.num_written += other.num_written
        self.num_failed += other.num_failed
        self.latencies.merge(other.latencies)


class SeriesBuilder:
    """Counts events by time as they come."""

    def __init__(self) -> None:
        self._width_s = _FIRST_WIDTH_S
        self._slots: defaultdict[int, _Slot] = defaultdict(_Slot)
        self._latencies = Sketch()
        self._uncommitted: dict[int, tuple[float, float, int]] = {}
        """When, latency so far and records of batches whose commit is yet to be told."""
        self._starts_s: deque[float] = deque(maxlen=_MOST_STARTS)
        self._before_s = 0.0
        self._now_s = 0.0

    def add(self, event: Event) -> None:
        """Count one event."""
        if isinstance(event, JobStarted):
            if self._now_s:
                self._starts_s.append(self._now_s)
            self._before_s = self._now_s
            self._settle_uncommitted()
        elif isinstance(event, BatchCommitted):
            self._add_batch(event)
        elif isinstance(event, BatchRemembered):
            self._now_s = self._before_s + event.elapsed_s
        elif isinstance(event, BatchKept) and event.batch in self._uncommitted:
            at_s, latency_s, number = self._uncommitted.pop(event.batch)
            self._add_latency(at_s, latency_s + event.commit_s, number)

    def series(self, most: int = MOST_SLOTS) -> Series:
        """Return what was counted so far.

        Args:
            most: Points wanted at most; neighbours are merged until there are no more.
        """
        self._settle_uncommitted()
        return Series(
            points=tuple(self._points(most)),
            starts_s=tuple(self._starts_s),
            distribution=_thinned(self._latencies.distribution()),
        )

    def _add_batch(self, event: BatchCommitted) -> None:
        self._now_s = self._before_s + event.elapsed_s
        slot = self._slot(self._now_s)
        slot.num_written += event.num_written
        slot.num_failed += event.num_failed
        if event.is_kept:
            self._add_latency(self._now_s, event.latency_s, event.num_written)
        else:
            known = self._now_s, event.latency_s, event.num_written
            self._uncommitted[event.batch] = known

    def _settle_uncommitted(self) -> None:
        """Count batches whose commit nobody told of: their start was killed just then."""
        for known in self._uncommitted.values():
            self._add_latency(*known)
        self._uncommitted.clear()

    def _add_latency(self, at_s: float, latency_s: float, num_records: int) -> None:
        if num_records:
            self._slot(at_s).latencies.add(latency_s, num_records)
            self._latencies.add(latency_s, num_records)

    def _slot(self, at_s: float) -> _Slot:
        while at_s >= MOST_SLOTS * self._width_s:
            self._width_s *= 2
            self._slots = _merged(self._slots, 2)
        return self._slots[int(at_s / self._width_s)]

    def _points(self, most: int) -> list[Point]:
        if not self._slots:
            return []
        by = -(-(max(self._slots) + 1) // most)
        slots, width_s = _merged(self._slots, by), by * self._width_s
        last = max(slots)
        # A rate over the sliver of time that a last slot may have would be anything.
        if last and self._now_s - last * width_s < width_s / 2:
            slots[last - 1].add(slots.pop(last))
            last -= 1
        ends_s = [*((number + 1) * width_s for number in range(last)), self._now_s]
        return [_point(slots[n], n * width_s, ends_s[n]) for n in range(last + 1)]


def _thinned(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return points no more than there are slots at most; the last one stays."""
    every = -(-len(points) // MOST_SLOTS) or 1
    return points[::-every][::-1]


def _merged(slots: dict[int, _Slot], by: int) -> defaultdict[int, _Slot]:
    """Return slots of ``by`` times the width."""
    merged: defaultdict[int, _Slot] = defaultdict(_Slot)
    for number, slot in slots.items():
        merged[number // by].add(slot)
    return merged


def _point(slot: _Slot, from_s: float, to_s: float) -> Point:
    latencies = slot.latencies
    return Point(
        from_s,
        # All that a slot has may have come in no time, by a clock that stood still.
        max(to_s, from_s + 1e-9),
        slot.num_written,
        slot.num_failed,
        latencies.percentile(50),
        latencies.percentile(99),
    )
