"""Requests of a process that nobody else governs: in-process runs, and Dask's own placement.

The same limits, found by the same law from the same gauges as on a cluster with a
dispatcher; only that one worker has all the slots.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import TypeAlias

from sage_dask import aio
from sage_dask.endpoint.address import check_endpoint, is_endpoint
from sage_dask.endpoint.context import RequestContext
from sage_dask.endpoint.gauges import Gauges
from sage_dask.endpoint.limit import RequestLimit
from sage_dask.endpoint.slots import RequestSlots
from sage_dask.scheduling.asking import ask_servers
from sage_dask.scheduling.servers import Servers, ServerStatistics, Share, Want

_log = logging.getLogger(__name__)

# Answers of this long are looked at together.
_GATHER_S = 0.02

# Requests that are there for a server, in limits: a limit may double before the next batch ends.
_WINDOWS = 2.5

# The one worker there is.
_SELF = "self"

# Who has requests, and for which servers: a job and endpoints.
_Asker: TypeAlias = tuple[str, tuple[str, ...]]


class Governor:
    """Divides the slots of model servers among the jobs of this process.

    Everything happens on the process's loop, but for what a run in another thread calls.
    """

    def __init__(self) -> None:
        self.slots = RequestSlots()
        self.slots.allot({}, 0)
        self.slots.on_change = self._gather
        self._servers = Servers()
        self._known: Mapping[str, ServerStatistics] = {}
        """As of the latest allotment; replaced, never changed, since other threads look at it."""
        self._outstanding: dict[_Asker, int] = {}
        self._is_due = False
        self._asking: asyncio.Task[None] | None = None

    def context(
        self, job: str, endpoints: Mapping[str, RequestLimit]
    ) -> Callable[[], RequestContext]:
        """Return what makes contexts for the stages of one task of a job."""
        if not endpoints:
            return RequestContext
        asker = (job, tuple(endpoints))
        aio.background_loop().call_soon_threadsafe(self._declare, asker, dict(endpoints))
        return lambda: RequestContext(self.slots, job, asker)

    def set_limits(self, limits: Mapping[str, float]) -> None:
        """Fix the limits of the servers among some gates; other gates have no meaning here."""
        servers = {check_endpoint(url): limit for url, limit in limits.items() if is_endpoint(url)}
        if servers:
            aio.background_loop().call_soon_threadsafe(self._fix, servers)

    def room(self, endpoints: Mapping[str, RequestLimit]) -> float:
        """Return how many requests should be there for these servers."""
        # Right from the first batch, which declares the limits only once it is on its way.
        fixed = sum(limit.fixed or 0 for limit in endpoints.values())
        return _WINDOWS * max(fixed, self._servers.capacity(tuple(endpoints)))

    def load(self, endpoints: Collection[str]) -> Mapping[str, ServerStatistics]:
        """Return how some servers are doing, by endpoint; those it has not met are left out."""
        known = self._known
        return {
            endpoint: replace(known[endpoint], down_s=self.slots.down_s(endpoint))
            for endpoint in endpoints
            if endpoint in known
        }

    def _declare(self, asker: _Asker, endpoints: Mapping[str, RequestLimit]) -> None:
        """Note what a job asks of its servers, once: the latest job to come decides."""
        if asker in self._outstanding:
            return
        self._outstanding[asker] = 0
        for endpoint, limit in endpoints.items():
            self._servers.declare(endpoint, limit)
        self._govern()

    def _fix(self, limits: Mapping[str, float]) -> None:
        for endpoint, limit in limits.items():
            self._servers.set_limit(endpoint, limit)

    def _gather(self) -> None:
        if not self._is_due:
            self._is_due = True
            asyncio.get_running_loop().call_later(_GATHER_S, self._govern)

    def _govern(self) -> None:
        """Hear the process's own report, and divide the slots anew."""
        self._is_due = False
        report, now_s = self.slots.report(), time.monotonic()
        for asker, number in report.outstanding.items():
            if number:
                self._outstanding[asker] = number  # type: ignore[index]  # as context() made it
            else:
                self._outstanding.pop(asker, None)  # type: ignore[call-overload]  # likewise
        self._servers.observe_report(_SELF, report, now_s)
        self._allot(now_s)
        self._ask_while_busy()

    def _allot(self, now_s: float) -> None:
        wants = [
            Want(_SELF, job, endpoints, number)
            for (job, endpoints), number in self._outstanding.items()
        ]
        shares = {want.job: Share() for want in wants}
        for allotment in self._servers.allot(wants, shares, now_s).values():
            self.slots.allot(allotment.slots, allotment.version)
        self._known = self._servers.statistics()

    def _ask_while_busy(self) -> None:
        """Follow the servers' gauges while there are requests."""
        is_busy = any(self._outstanding.values())
        if is_busy and self._asking is None:
            asking = ask_servers(lambda: self._servers, self._observe)
            self._asking = asyncio.ensure_future(asking)
            self._asking.add_done_callback(_tell_of_failure)
        elif not is_busy and self._asking is not None:
            self._asking.cancel()
            self._asking = None

    def _observe(self, endpoint: str, gauges: Gauges, now_s: float) -> None:
        self._servers.observe_gauges(endpoint, gauges, now_s)
        self._allot(now_s)


def _tell_of_failure(asking: asyncio.Task[None]) -> None:
    """Say why limits follow refused requests alone from now on; the run goes on."""
    error = None if asking.cancelled() else asking.exception()
    if error is not None:
        _log.warning("servers are not asked for their load any more", exc_info=error)


_lock = threading.Lock()
_own: Governor | None = None


def own_governor() -> Governor:
    """Return the governor of this process."""
    global _own
    with _lock:
        if _own is None:
            _own = Governor()
        return _own


def _forget() -> None:
    """Leave the parent's governor behind: its loop does not exist in a forked child."""
    global _lock, _own
    _lock = threading.Lock()
    _own = None


os.register_at_fork(after_in_child=_forget)
