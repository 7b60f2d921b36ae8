"""What one worker may have under way, as far as its governor can know.

Messages take time: between an allotment that was sent and a report that knows it,
the worker may go by any of those in between.  A claim is the most that any of
them allows, and never less than what the worker said it has under way.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from sage_dask.endpoint.report import RequestReport

_NO_SLOTS: Mapping[str, int] = {}

# Allotments that are remembered while a worker is silent; older ones are merged.
_MOST_PENDING = 8


@dataclass(frozen=True, slots=True)
class Allotment:
    """All request slots of one worker; what is not named has none."""

    version: int = 0
    """Grows with every allotment to the same worker."""
    slots: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """By endpoint and job."""


class WorkerClaims:
    """The allotments of one worker that it may go by, and what it last said."""

    def __init__(self) -> None:
        self._pending: deque[Allotment] = deque()
        self._told = Allotment()
        self._in_flight: dict[str, dict[str, int]] = {}
        self.down_s: Mapping[str, float] = {}
        self.is_silent = False
        """Whether it is stuck or cut off, so that others get its slots until it is heard of."""

    def observe(self, report: RequestReport) -> None:
        """Learn which allotment the worker goes by, and what it has under way."""
        self.is_silent = False
        while self._pending and self._pending[0].version < report.version:
            self._pending.popleft()
        self._in_flight = {}
        for (endpoint, job), number in report.in_flight.items():
            self._in_flight.setdefault(endpoint, {})[job] = number
        self.down_s = dict(report.down_s)

    def tell(self, slots: Mapping[str, Mapping[str, int]]) -> Allotment | None:
        """Return what has to be sent so that the worker knows its slots; None for nothing."""
        if slots == self._told.slots:
            return None
        self._told = Allotment(self._told.version + 1, slots)
        self._pending.append(self._told)
        if len(self._pending) > _MOST_PENDING:
            older = self._pending.popleft()
            self._pending[0] = _either(older, self._pending[0])
        return self._told

    def told(self, endpoint: str) -> Mapping[str, int]:
        """Return the slots that were last sent, by job."""
        return self._told.slots.get(endpoint, _NO_SLOTS)

    def in_flight(self, endpoint: str) -> int:
        """Return what the worker has under way to a server."""
        return sum(self._in_flight.get(endpoint, _NO_SLOTS).values())

    def claims(self, endpoint: str) -> Mapping[str, int]:
        """Return what the worker may have under way to a server at most, by job."""
        if self.is_silent:
            return _NO_SLOTS
        claims = dict(self._in_flight.get(endpoint, _NO_SLOTS))
        for allotment in self._pending:
            for job, number in allotment.slots.get(endpoint, _NO_SLOTS).items():
                claims[job] = max(claims.get(job, 0), number)
        return claims


def _either(older: Allotment, newer: Allotment) -> Allotment:
    """Return what a worker has that may go by one or the other."""
    slots = {
        endpoint: {
            job: max(
                of_job.get(endpoint, _NO_SLOTS).get(job, 0) for of_job in (older.slots, newer.slots)
            )
            for job in {**older.slots.get(endpoint, {}), **newer.slots.get(endpoint, {})}
        }
        for endpoint in {**older.slots, **newer.slots}
    }
    return Allotment(newer.version, slots)
