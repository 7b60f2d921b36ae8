"""All model servers of a cluster: how many requests each takes, and who may send them.

A worker sends on its own, within the slots it was told, and hears of a change
later; so a slot that was taken back counts as used until the worker's report
says that it knows.  Only then is it given to another.  Requests under way never
exceed a server's limit, but for the time after the limit itself was lowered.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from sage_dask.endpoint.gauges import Gauges
from sage_dask.endpoint.limit import RequestLimit
from sage_dask.endpoint.report import RequestReport
from sage_dask.errors import PlanError
from sage_dask.scheduling.adaptive import AdaptiveLimit
from sage_dask.scheduling.allotment import Share, Slots, Want, allot
from sage_dask.scheduling.claims import Allotment, WorkerClaims

__all__ = ["Allotment", "ServerStatistics", "Servers", "Share", "Want"]

_POLL_S = 1.0

# What nobody has said anything of.
_FOUND = RequestLimit()

# A server that was of no use for this long is asked anew how much it takes.
_UNUSED_S = 600.0
# A timer that rings a little early is on time.
_EARLY_S = 0.02


@dataclass(frozen=True, slots=True)
class ServerStatistics:
    """One server at one moment."""

    limit: int
    is_adaptive: bool
    in_flight: int
    """Requests of ours under way, as the workers last said."""
    allotted: int
    """Slots that workers have, or may still believe to have."""
    waiting: float | None
    """Requests of anyone in the server's queue; None before it said so."""
    running: float | None
    reason: str
    """Why the limit is what it is."""
    down_s: float | None
    """For how long no request has come through; None while they do."""


class Servers:
    """Limits of all servers, by endpoint, and the slots of all workers."""

    def __init__(self) -> None:
        self._servers: dict[str, _Server] = {}
        self._workers: dict[str, WorkerClaims] = {}
        self._wanted: frozenset[str] = frozenset()

    def declare(self, endpoint: str, limit: RequestLimit = _FOUND) -> None:
        """Make a server known; saying the same again changes nothing, not even a limit by hand.

        Args:
            endpoint: Its address.
            limit: Requests under way at most, or that they are to be found out.
        """
        server = self._servers.get(endpoint)
        if server is None:
            server = self._servers[endpoint] = _Server()
        elif server.declared == limit:
            return
        server.declared = limit
        server.adaptive.cap(limit.ceiling)
        self.set_limit(endpoint, limit.fixed)

    def set_limit(self, endpoint: str, limit: float | None) -> None:
        """Fix a limit by hand; 0 closes the server, None makes the limit adaptive again."""
        if limit is not None and not 0 <= limit < math.inf:
            raise PlanError(
                f"endpoint {endpoint!r}: a limit of {limit} requests; give 0 to close it, a "
                "positive number, or None to find out what the server takes"
            )
        self._server(endpoint).fixed = None if limit is None else int(limit)

    def observe_gauges(self, endpoint: str, gauges: Gauges, now_s: float) -> None:
        """Learn what a server says of its own load."""
        server = self._server(endpoint)
        server.gauges = gauges
        server.adaptive.observe_gauges(gauges, self.in_flight(endpoint), now_s)

    def observe_report(self, worker: str, report: RequestReport, now_s: float) -> None:
        """Learn what a worker says of its requests; not after ``worker_left``."""
        self._worker(worker).observe(report)
        for endpoint, outcomes in report.outcomes.items():
            in_flight = self.in_flight(endpoint)
            self._server(endpoint).adaptive.observe_outcomes(outcomes, in_flight, now_s)

    def worker_left(self, worker: str, now_s: float) -> None:
        """Forget a worker; its slots are free, for its connections are cut."""
        self._workers.pop(worker, None)

    def worker_silent(self, worker: str) -> None:
        """Give a worker's slots to others until it is heard of again.

        It may go by them for a moment when it comes back; else one that is stuck would keep
        them for good.
        """
        self._worker(worker).is_silent = True

    def keep_workers(self, workers: Collection[str]) -> None:
        """Forget all workers but these, as some may have left unseen."""
        self._workers = {name: own for name, own in self._workers.items() if name in workers}

    def drop_unused(self, now_s: float) -> None:
        """Forget servers that nobody wanted anything of for long; limits by hand stay."""
        self._servers = {
            endpoint: server
            for endpoint, server in self._servers.items()
            if self._is_busy(endpoint)
            or server.is_fixed_by_hand
            or not _UNUSED_S < now_s - server.polled_s < math.inf
        }

    def allot(
        self, wants: Sequence[Want], shares: Mapping[str, Share], now_s: float
    ) -> dict[str, Allotment]:
        """Divide all servers' slots anew, as far as those that were taken back are known to be.

        Args:
            wants: Of all jobs on all workers.
            shares: Of the jobs that have no ordinary one, by name.
            now_s: The time, by the clock of the observations.

        Returns:
            What the workers have to be told: all slots of each whose slots changed.
        """
        self._wanted = frozenset(e for want in wants if want.outstanding for e in want.endpoints)
        by_endpoint: dict[str, list[Want]] = {endpoint: [] for endpoint in self._servers}
        for want in wants:
            self._worker(want.worker)
            for part in self._divided(want):
                by_endpoint.setdefault(part.endpoints[0], []).append(part)
        slots = {
            endpoint: self._allot_one(endpoint, of_one, shares)
            for endpoint, of_one in by_endpoint.items()
        }
        return self._changes(slots)

    def capacity(self, endpoints: Collection[str]) -> float:
        """Return how many requests may be under way to some servers together."""
        known = (self._servers.get(endpoint, _UNKNOWN) for endpoint in endpoints)
        return float(sum(server.limit for server in known))

    def in_flight(self, endpoint: str) -> int:
        """Return how many requests are under way to a server, as the workers last said."""
        return sum(worker.in_flight(endpoint) for worker in self._workers.values())

    def claimed(self, endpoint: str) -> int:
        """Return how many requests may be under way to a server at this moment, at most."""
        return sum(sum(worker.claims(endpoint).values()) for worker in self._workers.values())

    def down_s(self, endpoint: str) -> float | None:
        """Return for how long a server has been down, as the worker says that knows longest."""
        return max(
            (w.down_s[endpoint] for w in self._workers.values() if endpoint in w.down_s),
            default=None,
        )

    def polls(self, now_s: float) -> list[str]:
        """Return the servers whose gauges should be asked for now; asking is up to the caller.

        A server that nobody wants anything of is left alone.
        """
        due = [e for e in self._servers if self._is_busy(e) and self._is_due(e, now_s)]
        for endpoint in due:
            self._servers[endpoint].polled_s = now_s
        return due

    @property
    def next_poll_s(self) -> float | None:
        """Seconds after which ``polls`` should be called again; None while all are idle."""
        busy = (server for endpoint, server in self._servers.items() if self._is_busy(endpoint))
        return min((server.poll_s for server in busy), default=None)

    def statistics(self) -> Mapping[str, ServerStatistics]:
        """Return what is known of each server, by endpoint."""
        return {
            endpoint: ServerStatistics(
                limit=server.limit,
                is_adaptive=server.fixed is None,
                in_flight=self.in_flight(endpoint),
                allotted=self.claimed(endpoint),
                waiting=server.gauges.waiting if server.gauges else None,
                running=server.gauges.running if server.gauges else None,
                reason=server.reason,
                down_s=self.down_s(endpoint),
            )
            for endpoint, server in self._servers.items()
        }

    def _server(self, endpoint: str) -> _Server:
        if endpoint not in self._servers:
            self.declare(endpoint)
        return self._servers[endpoint]

    def _worker(self, name: str) -> WorkerClaims:
        worker = self._workers.get(name)
        if worker is None:
            worker = self._workers[name] = WorkerClaims()
        return worker

    def _is_busy(self, endpoint: str) -> bool:
        return endpoint in self._wanted or self.in_flight(endpoint) > 0

    def _is_due(self, endpoint: str, now_s: float) -> bool:
        server = self._servers[endpoint]
        return now_s - server.polled_s >= server.poll_s - _EARLY_S

    def _divided(self, want: Want) -> list[Want]:
        """Divide a demand among replicas by their limits; one that is down is only tried."""
        if len(want.endpoints) == 1:
            return [want]
        down = self._workers[want.worker].down_s
        limits = {e: 0 if e in down else self._server(e).limit for e in want.endpoints}
        total = sum(limits.values())
        return [
            replace(
                want,
                endpoints=(endpoint,),
                outstanding=max(
                    math.ceil(want.outstanding * limit / total) if total else 0,
                    min(want.outstanding, 1),
                ),
            )
            for endpoint, limit in limits.items()
        ]

    def _allot_one(
        self, endpoint: str, wants: Sequence[Want], shares: Mapping[str, Share]
    ) -> Slots:
        """Return the slots of one server that workers are to have from now on.

        What is to become less becomes so at once.  What is to become more does as far as there
        are slots that nobody may still use, those who have least first.
        """
        limit = self._server(endpoint).limit
        told = {
            (name, job): number
            for name, worker in self._workers.items()
            for job, number in worker.told(endpoint).items()
        }
        goal = allot(limit, wants, shares, endpoint=endpoint, before=told)
        raised = [pair for pair, number in goal.items() if number > told.get(pair, 0)]
        slots = goal | {pair: told.get(pair, 0) for pair in raised}
        if raised:
            free = limit - self.claimed(endpoint)
            claims = {name: worker.claims(endpoint) for name, worker in self._workers.items()}
        for pair in sorted(raised, key=lambda pair: (slots[pair], pair)):
            # Up to what it may still use from before costs nobody else anything.
            claim = max(claims[pair[0]].get(pair[1], 0), slots[pair])
            more = max(min(goal[pair] - claim, free), 0)
            slots[pair] = min(goal[pair], claim + more)
            free -= more
        return slots

    def _changes(self, slots: Mapping[str, Slots]) -> dict[str, Allotment]:
        """Return what the workers were not told yet."""
        told: dict[str, dict[str, dict[str, int]]] = {name: {} for name in self._workers}
        for endpoint, of_one in slots.items():
            for (name, job), number in of_one.items():
                if number:
                    told[name].setdefault(endpoint, {})[job] = number
        changes = {}
        for name, worker in self._workers.items():
            allotment = worker.tell(told[name])
            if allotment is not None:
                changes[name] = allotment
        return changes

    def __repr__(self) -> str:
        limits = ", ".join(
            f"{endpoint} {self.in_flight(endpoint)}/{server.limit}"
            for endpoint, server in self._servers.items()
        )
        return f"<Servers {limits or 'none'}; {len(self._workers)} workers>"


class _Server:
    """What is known of one server."""

    __slots__ = ("adaptive", "declared", "fixed", "gauges", "polled_s")

    def __init__(self) -> None:
        self.adaptive = AdaptiveLimit()
        self.declared: RequestLimit | None = None
        self.fixed: int | None = None
        self.gauges: Gauges | None = None
        self.polled_s = -math.inf

    @property
    def is_fixed_by_hand(self) -> bool:
        """Whether its limit is another than was declared."""
        declared = None if self.declared is None else self.declared.fixed
        return self.fixed is not None and self.fixed != declared

    @property
    def limit(self) -> int:
        """Requests that may be under way."""
        return int(self.adaptive.limit) if self.fixed is None else self.fixed

    @property
    def poll_s(self) -> float:
        """Seconds between two looks at its gauges; those of a fixed limit are for people."""
        return self.adaptive.next_poll_s if self.fixed is None else _POLL_S

    @property
    def reason(self) -> str:
        """Why the limit is what it is."""
        return self.adaptive.reason if self.fixed is None else "fixed"


_UNKNOWN = _Server()
