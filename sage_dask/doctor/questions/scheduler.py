"""What a scheduler is asked about itself; the scheduler runs it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import dask
from dask.utils import parse_timedelta
from distributed import Scheduler
from distributed.node import get_tcp_server_addresses

from sage_dask.doctor.questions.machine import package_versions
from sage_dask.doctor.questions.server import ask_gauges
from sage_dask.doctor.scheduler import Dispatching, SchedulerFacts
from sage_dask.doctor.settings import LOST_WORKER_TIMEOUT, WORK_STEALING, SchedulerSettings
from sage_dask.doctor.versions import COMPARED, PYTHON, Versions
from sage_dask.endpoint.gauges import Gauges
from sage_dask.scheduling.on_dask.plugin import DispatchPlugin


@dataclass(frozen=True, slots=True)
class Registered:
    """What a scheduler knows of a worker, and does not tell those who ask who it is."""

    silent_s: float
    """How long ago it was last heard of, by the scheduler's clock."""
    versions: Versions


@dataclass(frozen=True, slots=True)
class SchedulerAnswer:
    """A scheduler, as it sees itself."""

    facts: SchedulerFacts
    versions: Versions
    gauges: tuple[Gauges | None, ...]
    """Of the servers that it was asked about, in their order."""
    workers: Mapping[str, Registered]
    """By address."""


async def look_inside(endpoints: Sequence[str], dask_scheduler: Scheduler) -> SchedulerAnswer:
    """Return what a scheduler knows of itself, and of servers' loads as it can read them."""
    gauges = await asyncio.gather(*map(ask_gauges, endpoints))
    now_s = time.time()
    return SchedulerAnswer(
        _facts(dask_scheduler),
        package_versions(),
        tuple(gauges),
        {
            address: Registered(now_s - state.last_seen, _versions(state.versions))
            for address, state in dask_scheduler.workers.items()
        },
    )


def _versions(told: Mapping[str, Any]) -> Versions:
    """Return the releases that a worker told Dask as it registered."""
    packages = told.get("packages", {})
    versions = {name: packages[name] for name in COMPARED if name in packages}
    if PYTHON in versions:
        # Such as 3.11.7.final.0.
        versions[PYTHON] = ".".join(versions[PYTHON].split(".")[:3])
    return versions


def _facts(scheduler: Scheduler) -> SchedulerFacts:
    dashboard = scheduler.services.get("dashboard")
    hosts = [] if dashboard is None else [host for host, _ in get_tcp_server_addresses(dashboard)]
    return SchedulerFacts(
        listens=tuple(listener.listen_address for listener in scheduler.listeners),
        dashboard_hosts=tuple(hosts),
        dashboard_port=None if dashboard is None else dashboard.port,
        dispatching=_dispatching(scheduler),
        settings=SchedulerSettings(
            worker_ttl_s=scheduler.worker_ttl,
            allowed_failures=scheduler.allowed_failures,
            lost_worker_timeout_s=parse_timedelta(dask.config.get(LOST_WORKER_TIMEOUT)),
            no_workers_timeout_s=scheduler.no_workers_timeout,
            steals_work=bool(dask.config.get(WORK_STEALING)),
        ),
    )


def _dispatching(scheduler: Scheduler) -> Dispatching | None:
    plugin = scheduler.plugins.get(DispatchPlugin.name)
    if not isinstance(plugin, DispatchPlugin):
        return None
    statistics = plugin.dispatcher.statistics(time.monotonic())
    gates = {name: each.limit for name, each in statistics.gates.items() if each.limit is not None}
    return Dispatching(statistics.policy, plugin.is_broken, gates, statistics.num_queued)
