"""What goes on between this process and one endpoint: slots, requests, how they ended."""

from __future__ import annotations

import math
from collections.abc import Mapping

from sage_dask.endpoint.breaker import Breaker, RequestOutcome
from sage_dask.endpoint.report import Outcomes


class Traffic:
    """Slots and requests of one endpoint, by job."""

    def __init__(self, endpoint: str, breaker: Breaker) -> None:
        self.endpoint = endpoint
        self.breaker = breaker
        self.slots: Mapping[str, int] | None = None
        """By job, those not named have none; None where nobody governs them."""
        self.in_flight: dict[str, int] = {}
        """By job; those not named have none."""
        self.last_key: bytes | None = None
        """The prefix that was sent last."""
        self._ended: dict[RequestOutcome, int] = {}
        self._latency_s = 0.0

    def slots_of(self, job: str) -> float:
        """Return how many requests of a job may run at once."""
        return math.inf if self.slots is None else self.slots.get(job, 0)

    @property
    def all_slots(self) -> float:
        """How many requests may run at once, of all jobs."""
        return math.inf if self.slots is None else sum(self.slots.values())

    def has_slot(self, job: str) -> bool:
        """Return whether a job has fewer requests under way than slots."""
        return self.in_flight.get(job, 0) < self.slots_of(job)

    def is_free(self, job: str, now_s: float) -> bool:
        """Return whether one more request of a job may start."""
        return self.has_slot(job) and self.breaker.room(now_s) >= 1

    def start(self, job: str, key: bytes | None, now_s: float) -> int:
        """Count a request that starts, and return what its end must name: its generation."""
        self.in_flight[job] = self.in_flight.get(job, 0) + 1
        self.last_key = key
        return self.breaker.start(now_s)

    def end(
        self,
        job: str,
        generation: int,
        outcome: RequestOutcome,
        latency_s: float,
        now_s: float,
        said: str,
    ) -> None:
        """Count how a request ended."""
        self.in_flight[job] -= 1
        if not self.in_flight[job]:
            del self.in_flight[job]
        self._ended[outcome] = self._ended.get(outcome, 0) + 1
        if outcome == "ok":
            self._latency_s += latency_s
        self.breaker.end(generation, outcome, now_s, slots=self.all_slots, said=said)

    def take_outcomes(self) -> Outcomes:
        """Return how requests ended since the last call."""
        counts, self._ended = self._ended, {}
        latency_s, self._latency_s = self._latency_s, 0.0
        return Outcomes(
            ok=counts.get("ok", 0),
            busy=counts.get("busy", 0),
            failed=counts.get("failed", 0),
            latency_s=latency_s,
        )

    def __repr__(self) -> str:
        slots = "any" if self.slots is None else f"{self.all_slots}"
        in_flight = sum(self.in_flight.values())
        return f"<Traffic to {self.endpoint}: {in_flight}/{slots} in flight, {self.breaker!r}>"
