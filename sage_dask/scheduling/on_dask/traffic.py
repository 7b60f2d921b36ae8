"""The scheduler's side of requests to model servers: reports in, slots out, gauges asked.

All decisions are the dispatcher's; this brings it the news and carries out what it says.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from weakref import WeakKeyDictionary

from distributed import Scheduler
from distributed.protocol import pickle

from sage_dask.endpoint.gauges import Gauges
from sage_dask.errors import MissingDependencyError
from sage_dask.scheduling.asking import ask_servers
from sage_dask.scheduling.on_dask.host import Host
from sage_dask.scheduling.on_dask.wire import ALLOT, LOAD
from sage_dask.scheduling.servers import Allotment
from sage_dask.scheduling.statistics import Load, Notice

# Clients hear of gates and servers this often at most.
_TELL_S = 0.25


# Workers that have reported, by scheduler: they outlive any one plugin.
_speaking: WeakKeyDictionary[Scheduler, set[str]] = WeakKeyDictionary()


class Traffic:
    """Requests of one cluster to model servers."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._linked = _speaking.setdefault(host.scheduler, set())
        """Workers that understand what they are told."""
        self._linked.intersection_update(host.scheduler.workers)
        for worker in self._linked:
            # A predecessor may have left them free.
            self._tell_worker(worker, {}, 0)
        self._latest: dict[str, Allotment] = {}
        self._told = Load()
        self._tell_s = 0.0
        self._polling = asyncio.ensure_future(self._poll())

    def stop(self) -> None:
        """Ask no more."""
        self._polling.cancel()

    def release(self) -> None:
        """Let workers send what they like: nobody will allot them anything any more."""
        for worker in self._linked:
            self._tell_worker(worker, None, 0)

    def report(self, worker: str, pickled: bytes) -> None:
        """Take a worker's report; the first one opens the line to it."""
        host = self._host
        if worker not in host.scheduler.workers:
            return
        host.dispatcher.requests_reported(worker, pickle.loads(pickled), time.monotonic())
        if worker not in self._linked:
            self._linked.add(worker)
            self._send_to_all()
        host.kick()

    def forget(self, worker: str) -> None:
        """Forget a worker that is gone."""
        self._latest.pop(worker, None)
        if worker in self._linked:
            self._linked.remove(worker)
            self._send_to_all()

    def allot(self, now_s: float) -> None:
        """Tell workers what the dispatcher allots to them, where that has changed."""
        for worker, allotment in self._host.dispatcher.allotments(now_s).items():
            self._latest[worker] = allotment
            if worker in self._linked:
                self._send(worker, allotment)
        self._tell(now_s)

    def _send(self, worker: str, allotment: Allotment) -> None:
        slots = {endpoint: dict(by_job) for endpoint, by_job in allotment.slots.items()}
        self._tell_worker(worker, slots, allotment.version)

    def _send_to_all(self) -> None:
        """Say again what everyone has: with a worker more or less, shares are others."""
        for worker in self._linked & self._latest.keys():
            self._send(worker, self._latest[worker])

    def _tell_worker(
        self, worker: str, slots: Mapping[str, Mapping[str, int]] | None, version: int
    ) -> None:
        scheduler = self._host.scheduler
        if worker not in scheduler.stream_comms:
            # It is being removed, of which we hear a moment later.
            return
        # Rate limits are divided evenly among those who send at all.
        share = 1 / max(len(self._linked), 1)
        message = {"op": ALLOT, "slots": slots, "version": version, "share": share}
        scheduler.worker_send(worker, message)

    def tell_again(self) -> None:
        """Tell clients with the next decisions, changed or not: one that has come knows nothing."""
        self._told, self._tell_s = Load(), 0.0

    def _tell(self, now_s: float) -> None:
        """Tell clients how gates and servers are doing, when that changed and not too often."""
        if now_s < self._tell_s:
            return
        load = self._host.dispatcher.load()
        if load != self._told:
            self._told, self._tell_s = load, now_s + _TELL_S
            self._host.scheduler.log_event(LOAD, load.as_plain())

    async def _poll(self) -> None:
        """Ask servers for their gauges, whenever the dispatcher wants to know."""
        try:
            await ask_servers(lambda: self._host.dispatcher.servers, self._observe)
        except MissingDependencyError as error:
            self._host.publish(
                Notice("servers", f"{error}; until then limits follow refused requests alone")
            )
        except Exception as error:
            self._host.break_off(error)

    def _observe(self, endpoint: str, gauges: Gauges, now_s: float) -> None:
        self._host.dispatcher.gauges_observed(endpoint, gauges, now_s)
        self._host.kick()
