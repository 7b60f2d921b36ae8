"""Where the requests of one job to one set of replicas are seen to, one after the other.

It knows who waits and what goes on at the replicas, and decides who goes where
and when to give up.  It neither waits nor starts anything.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from sage_dask.endpoint.line import Line, Waiter
from sage_dask.endpoint.routing import Replica, choose
from sage_dask.endpoint.traffic import Traffic


class Desk:
    """The waiting requests of one job, and the replicas that any of them may go to."""

    def __init__(self, job: str, traffic: Sequence[Traffic], since_s: float = -math.inf) -> None:
        if not traffic:
            raise ValueError(f"job {job!r} asks for a slot of no endpoint; name at least one")
        self.job = job
        self.endpoints = tuple(each.endpoint for each in traffic)
        self.line = Line(self.endpoints)
        self._traffic = traffic
        self._since_s = since_s
        """When the job first asked here; its patience begins then, however long others waited."""
        self.note_usable()

    def route(self, key: bytes | None, now_s: float) -> Traffic | None:
        """Return where a request goes that comes now; None if it has to wait."""
        if self.line:
            return None
        free = self._free(now_s)
        return self._choose(free, self.line.favourite(key)) if free else None

    def next(self, now_s: float) -> tuple[Waiter, Traffic] | None:
        """Take the next request out of the line, for where it goes; None if nothing is free."""
        free = self._free(now_s)
        if not free:
            return None
        if len(free) == 1:
            waiter = self.line.next_for(free[0].endpoint, after=free[0].last_key)
        else:
            waiter = self.line.first
        self.line.remove(waiter)
        return waiter, self._choose(free, waiter.favourite)

    def note_usable(self) -> None:
        """Have requests prefer replicas that are up and have slots for them."""
        usable = [
            each.endpoint
            for each in self._traffic
            if not each.breaker.is_open and each.slots_of(self.job) > 0
        ]
        self.line.use(tuple(usable))

    def is_given_up(self, max_outage_s: float, now_s: float) -> bool:
        """Return whether all replicas have been down for so long, while this job was there."""
        down_s = self._down_s(now_s)
        return down_s is not None and min(down_s, now_s - self._since_s) >= max_outage_s

    def outage(self, now_s: float) -> str:
        """Say what is down, for how long, and what to do."""
        has, mend = "model server {} has", "start it"
        if len(self.endpoints) > 1:
            has, mend = "model servers {} have", "start one of them"
        errors = [each.breaker.last_error for each in self._traffic if each.breaker.last_error]
        return (
            f"{has.format(', '.join(self.endpoints))} been unreachable "
            f"for {_duration(self._down_s(now_s) or 0.0)} (last: {(*errors, 'no answer')[0]}); "
            f"{mend}, then run again (what was written is kept)"
        )

    def times_to_wake(self, max_outage_s: float, now_s: float) -> Iterator[float]:
        """Return when a probe is due, and when to give up, as far as these times are known."""
        for each in self._traffic:
            # Where there is no slot for a probe, its time is none to wake at: what brings a slot
            # sees to the probe as well.
            if each.breaker.is_open and each.has_slot(self.job):
                yield each.breaker.next_probe_s
        if (down_s := self._down_s(now_s)) is not None:
            yield max(now_s - down_s, self._since_s) + max_outage_s

    def _down_s(self, now_s: float) -> float | None:
        """Return for how long all replicas have been down; None if one of them is not."""
        down_s = [each.breaker.down_s(now_s) for each in self._traffic]
        known = [seconds for seconds in down_s if seconds is not None]
        return min(known) if len(known) == len(down_s) else None

    def _free(self, now_s: float) -> list[Traffic]:
        return [each for each in self._traffic if each.is_free(self.job, now_s)]

    def _choose(self, free: Sequence[Traffic], favourite: str | None) -> Traffic:
        if len(free) == 1:
            return free[0]
        if probed := [each for each in free if each.breaker.is_open]:
            return probed[0]  # Where all prefer the others it would never be seen to be back.
        replicas = [self._replica(each) for each in self._traffic]
        endpoint = choose(replicas, [each.endpoint for each in free], favourite)
        return next(each for each in free if each.endpoint == endpoint)

    def _replica(self, traffic: Traffic) -> Replica:
        in_flight = traffic.in_flight.get(self.job, 0)
        return Replica(traffic.endpoint, in_flight, traffic.slots_of(self.job))

    def __repr__(self) -> str:
        return f"<Desk of {self.job!r} for {', '.join(self.endpoints)}: {self.line!r}>"


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 120 else f"{seconds:.0f} s"
