"""A cluster's snapshot on the scheduler's own ``/metrics``.

Dask serves there whatever is registered with ``prometheus_client``; a snapshot is
taken, and turned into metrics, each time that somebody scrapes.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import Protocol

from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.core import CounterMetricFamily

from sage_dask.dashboard.cluster_metrics import cluster_families
from sage_dask.dashboard.families import Family
from sage_dask.dashboard.job_metrics import job_families
from sage_dask.dashboard.snapshot import Snapshot


class Monitor(Protocol):
    """Who knows how the cluster is."""

    def snapshot(self) -> Snapshot:
        """Return how it is now."""
        ...


class HighMarks:
    """Holds counters where they were once.

    Prometheus takes a counter that went back for one that began anew, and counts all of it a second
    time.  Ours go back where records are taken back or refused, and a little where a
    part of the latency is the difference of two measurements.
    """

    def __init__(self) -> None:
        self._highest: dict[tuple[str, ...], float] = {}

    def hold(self, families: list[Family]) -> None:
        """Raise each counter to where it was before; counters that are gone are forgotten."""
        highest: dict[tuple[str, ...], float] = {}
        for family in families:
            if isinstance(family, CounterMetricFamily):
                for place, sample in enumerate(family.samples):
                    key = (sample.name, *sample.labels.values())
                    highest[key] = max(sample.value, self._highest.get(key, 0.0))
                    family.samples[place] = sample._replace(value=highest[key])
        self._highest = highest


class SnapshotCollector:
    """Collects the metrics of one monitor, for as long as that lives.

    Args:
        monitor: Held weakly: a registry outlives schedulers, and would keep them.
    """

    def __init__(self, monitor: Monitor) -> None:
        self._monitor = weakref.ref(monitor)
        self._marks = HighMarks()

    def collect(self) -> Iterator[Family]:
        """Yield all families of the moment; none once the monitor is gone."""
        monitor = self._monitor()
        if monitor is not None:
            families = _families(monitor.snapshot())
            self._marks.hold(families)
            yield from families

    def describe(self) -> list[Family]:
        """Return all families without samples: registering must not take a snapshot."""
        return _families(_NOTHING)


_NOTHING = Snapshot(0.0, jobs=(), scheduling=None, nodes=(), notices=(), may_control=False)

_registered: weakref.WeakKeyDictionary[CollectorRegistry, SnapshotCollector] = (
    weakref.WeakKeyDictionary()
)


def register(monitor: Monitor, registry: CollectorRegistry = REGISTRY) -> None:
    """Have a monitor's snapshots served; whichever was registered before is so no more.

    Args:
        monitor: Of the scheduler of this process; nothing is served any more once it is gone.
        registry: Of ``prometheus_client``; Dask serves the default one.
    """
    former = _registered.pop(registry, None)
    if former is not None:
        registry.unregister(former)
    collector = SnapshotCollector(monitor)
    registry.register(collector)
    _registered[registry] = collector


def _families(snapshot: Snapshot) -> list[Family]:
    return [*job_families(snapshot.jobs), *cluster_families(snapshot)]
