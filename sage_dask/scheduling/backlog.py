"""Requests that tasks still have to make: how far tasks run ahead of their servers.

A task that sends requests starts while the servers' limits leave room for them and
for a short runway beyond, so that a worker that is handed a free slot has a request
for it at once.  The rest of the tasks wait in the queue, where they can still be
placed, overtaken and withdrawn.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Set
from typing import TypeAlias

from sage_dask.scheduling.ledger import Lease
from sage_dask.scheduling.servers import Servers, Want

# Who has requests, and for which servers: worker, job, endpoints.
_Asker: TypeAlias = tuple[str, str, tuple[str, ...]]

# Requests beyond the limits, as a share of them.  With half of it, batches of 32 left a server of
# 64 seats at 0.95 where this gives 0.965: a worker that ends a batch finds the next one there.
_RUNWAY_SHARE = 1.0

# And what the servers answer in the time that a task takes to be placed, to travel and to start.
_RUNWAY_S = 0.25

# A worker with requests reports at least every two seconds; one that has not for so long is stuck.
SILENT_S = 5.0

# Answers of the last seconds count for the rate; half as much after each.
_RATE_KEEPS = 0.5


class Backlog:
    """Requests of started tasks that were not answered yet.

    Args:
        servers: Whose limits count.
    """

    def __init__(self, servers: Servers) -> None:
        self._servers = servers
        self._by_asker: Counter[_Asker] = Counter()
        self._by_endpoints: Counter[tuple[str, ...]] = Counter()
        self._answered: Counter[tuple[str, ...]] = Counter()
        self._heard_s: dict[str, float] = {}
        self._silent: set[str] = set()
        self._per_s: dict[str, float] = {}
        self._measured_s: float | None = None

    def has_room(self, endpoints: tuple[str, ...]) -> bool:
        """Return whether another task for these servers should start."""
        return self.outstanding(endpoints) < self.wanted(endpoints)

    def wanted(self, endpoints: tuple[str, ...]) -> float:
        """Return how many requests should be there for these servers: their limits and a runway."""
        return sum(map(self._wanted_by, endpoints))

    def outstanding(self, endpoints: tuple[str, ...]) -> float:
        """Return the requests that were not answered yet, as far as they are for these servers.

        Those that may go to other servers as well count in part.  As a whole they would keep out
        for good whoever needs one of the servers that others use together.  Those of workers that
        have fallen silent do not count: others would wait for them without end.
        """
        return sum(
            number if others == endpoints else number * self._share(endpoints, others)
            for others, number in self._of_those_heard().items()
        )

    def is_open(self, endpoints: tuple[str, ...]) -> bool:
        """Return whether any of these servers takes requests, now or when others are answered."""
        servers = self._servers
        return any(servers.capacity((e,)) and servers.down_s(e) is None for e in endpoints)

    def open(self, lease: Lease) -> None:
        """Count the requests of a task that starts: one per record, as far as is known."""
        if lease.task.demand.endpoints:
            if not any(
                self._by_asker[asker] for asker in self._by_asker if asker[0] == lease.worker
            ):
                # It had nothing to report on.
                self._heard_s[lease.worker] = lease.started_s
            lease.outstanding = lease.task.requests
            self._count(lease, lease.outstanding)

    def heard(self, worker: str, now_s: float) -> None:
        """Note that a worker has reported; while it has requests it does so every few seconds."""
        self._heard_s[worker] = now_s
        self._silent.discard(worker)

    def left(self, worker: str) -> None:
        """Forget a worker that is gone."""
        self._heard_s.pop(worker, None)
        self._silent.discard(worker)

    def correct(self, lease: Lease, outstanding: int) -> None:
        """Note how many requests a task really has left, as its worker says."""
        if not lease.task.demand.endpoints:
            return
        change, lease.outstanding = outstanding - lease.outstanding, outstanding
        self._count(lease, change)
        if change < 0:
            self._answered[lease.task.demand.endpoints] -= change

    def close(self, lease: Lease) -> None:
        """Note that a task makes no requests any more."""
        self.correct(lease, 0)

    @property
    def silent(self) -> Set[str]:
        """Workers with requests that have not reported for long: stopped, or cut off."""
        return self._silent

    def tick(self, now_s: float) -> None:
        """Measure how fast servers answer and who is silent, about once a second."""
        if self._measured_s is not None and now_s > self._measured_s:
            seconds = now_s - self._measured_s
            latest = self._answered_by_server()
            self._per_s = {
                endpoint: _RATE_KEEPS * self._per_s.get(endpoint, 0.0)
                + (1 - _RATE_KEEPS) * latest.get(endpoint, 0.0) / seconds
                for endpoint in {e for endpoints in self._by_endpoints for e in endpoints}
            }
        self._measured_s = now_s
        self._answered.clear()
        self._by_asker = +self._by_asker
        self._silent = {
            worker
            for worker, _, _ in self._by_asker
            if now_s - self._heard_s.get(worker, now_s) > SILENT_S
        }
        self._by_endpoints = +self._by_endpoints

    def wants(self) -> Iterator[Want]:
        """Yield who has requests for which servers, and how many."""
        for (worker, job, endpoints), number in self._by_asker.items():
            if number > 0:
                yield Want(worker, job, endpoints, number)

    def _of_those_heard(self) -> Mapping[tuple[str, ...], int]:
        """Return the requests by endpoints, without those of silent workers."""
        if not self._silent:
            return self._by_endpoints
        heard: Counter[tuple[str, ...]] = Counter()
        for (worker, _, endpoints), number in self._by_asker.items():
            if worker not in self._silent:
                heard[endpoints] += number
        return heard

    def _wanted_by(self, endpoint: str) -> float:
        limit = self._servers.capacity((endpoint,))
        if not limit:
            return 0.0
        return limit + max(_RUNWAY_SHARE * limit, _RUNWAY_S * self._per_s.get(endpoint, 0.0))

    def _share(self, some: tuple[str, ...], servers: tuple[str, ...]) -> float:
        """Return what part of the requests for any of certain servers is for some others."""
        common = tuple(endpoint for endpoint in servers if endpoint in some)
        wanted = self.wanted(servers)
        return self.wanted(common) / wanted if wanted else len(common) / len(servers)

    def _answered_by_server(self) -> dict[str, float]:
        """Divide what was answered among servers as requests are."""
        answered: dict[str, float] = {}
        for endpoints, number in self._answered.items():
            for endpoint in endpoints:
                part = number * self._share((endpoint,), endpoints)
                answered[endpoint] = answered.get(endpoint, 0.0) + part
        return answered

    def _count(self, lease: Lease, change: int) -> None:
        endpoints = lease.task.demand.endpoints
        self._by_asker[lease.worker, lease.task.job, endpoints] += change
        self._by_endpoints[endpoints] += change
