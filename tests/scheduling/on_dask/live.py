"""A cluster within this process, and tasks that run for as long as a test wants."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import dask
from distributed import Client, LocalCluster

from sage_dask.scheduling.on_dask.control import SchedulerControl
from sage_dask.scheduling.on_dask.plugin import DispatchPlugin
from sage_dask.scheduling.on_dask.settings import Settings

# A cluster that answers at all does so in milliseconds; this only ends a test that would hang.
PATIENCE_S = 60


@contextmanager
def live_cluster(num_workers: int = 2, threads: int = 2, **options: Any) -> Iterator[LocalCluster]:
    """Lend a cluster whose scheduler checks itself."""
    with LocalCluster(
        n_workers=num_workers,
        threads_per_worker=threads,
        processes=False,
        protocol="tcp",  # Messages are packed and unpacked as between machines.
        host="127.0.0.1",
        dashboard_address="127.0.0.1:0",
        scheduler_kwargs={"dashboard": False, "validate": True},
        memory_limit=0,
        **options,
    ) as cluster:
        yield cluster


@contextmanager
def control_of(client: Client, settings: Settings | None = None) -> Iterator[SchedulerControl]:
    """Lend a dispatcher on a cluster, and leave stock Dask behind."""
    control = SchedulerControl(client)
    control.start(settings or Settings("fifo"))
    try:
        yield control
    finally:
        if control.is_started:
            control.detach()


def plugin_of(cluster: Any) -> DispatchPlugin:
    """Return the plugin of a cluster whose scheduler is in this process."""
    plugin = cluster.scheduler.plugins[DispatchPlugin.name]
    assert isinstance(plugin, DispatchPlugin)
    return plugin


def until(cluster: Any, condition: Callable[[], Any]) -> None:
    """Wait for what happens soon on the cluster's event loop; fail if it does not."""
    give_up = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < give_up, "waited in vain"
        cluster.sync(asyncio.sleep, 0.001)  # A few turns of that loop.


def submit(client: Client, function: Any, *args: Any, key: str, **annotations: Any) -> Any:
    """Submit one task of ours, with a gate slot if asked for."""
    gates = annotations.pop("gates", {})
    said = {"job": "1", "pipeline": "rag", "stage": "ask", "gates": gates}
    with dask.annotate(sage=said):
        return client.submit(function, *args, key=key, pure=False, **annotations)


class Switch:
    """Keeps tasks running until it is opened, and counts those that run at once."""

    def __init__(self) -> None:
        self.opened = threading.Event()
        self.num_running = 0
        self.most_running = 0
        self.num_started = 0
        self._lock = threading.Lock()

    def run(self) -> None:
        """Stand for a call to a model server."""
        with self._lock:
            self.num_running += 1
            self.num_started += 1
            self.most_running = max(self.most_running, self.num_running)
        assert self.opened.wait(PATIENCE_S)
        with self._lock:
            self.num_running -= 1


SWITCHES: dict[str, Switch] = {}


def run_until_opened(name: str) -> str:
    """Work for a task: it finds its switch by name in this process."""
    SWITCHES[name].run()
    return name


@contextmanager
def switch(name: str) -> Iterator[Switch]:
    """Lend a switch of a name, opened at the end."""
    SWITCHES[name] = made = Switch()
    try:
        yield made
    finally:
        made.opened.set()
        del SWITCHES[name]
