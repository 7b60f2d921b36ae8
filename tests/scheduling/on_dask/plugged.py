"""A dispatcher plugin on ``DaskState``, and what tests do with it in one word."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from sage_dask.scheduling.on_dask.plugin import DispatchPlugin
from sage_dask.scheduling.on_dask.settings import Settings
from sage_dask.scheduling.policy import Placement, Policy
from tests.scheduling.on_dask.dask_state import DaskState


def ours(job: str = "1", **more: Any) -> dict[str, Any]:
    """Return the annotation of tasks of a job of pipeline ``rag``."""
    return {"sage": {"job": job, "pipeline": "rag", "stage": "embed", **more}}


def tasks(number: int, prefix: str = "t") -> dict[str, list[str]]:
    """Return a graph of tasks without inputs."""
    return {f"{prefix}-{index}": [] for index in range(number)}


def plug(dask: DaskState, settings: Settings | None = None) -> DispatchPlugin:
    """Register a plugin and return it."""
    plugin = DispatchPlugin(settings or Settings("fifo"))
    dask.register(plugin)
    return plugin


@contextmanager
def plugged(
    settings: Settings | None = None,
    config: Mapping[str, Any] | None = None,
    **options: Any,
) -> Iterator[tuple[DaskState, DispatchPlugin]]:
    """Lend a scheduler with a plugin; both check themselves at the end."""
    with DaskState(config, **options) as dask:
        plugin = plug(dask, settings)
        yield dask, plugin
        check(dask, plugin)


def check(dask: DaskState, plugin: DispatchPlugin) -> None:
    """Compare the dispatcher's counts with its leases, and its leases with Dask."""
    plugin.dispatcher.validate()
    if not plugin.is_registered:
        return
    ours = {key: task for key, task in dask.scheduler.tasks.items() if "sage" in _said(task)}
    running = {key for key, task in ours.items() if task.state == "processing" and not task.actor}
    waiting = {key for key, task in ours.items() if task.state == "no-worker" and not task.actor}
    assert set(plugin.dispatcher.ledger.running) == running
    assert {entry.task.key for entry in plugin.dispatcher.queue.entries()} == waiting


def notices(dask: DaskState, kind: str) -> list[str]:
    """Return what people were told of one kind, first things first."""
    events = dask.scheduler.get_events("sage-dask")
    return [said["text"] for _, said in events if said["kind"] == kind]


def look(dask: DaskState, plugin: DispatchPlugin) -> None:
    """Let the watch do its duties once."""
    dask.do(plugin.watch.look)


class RaisingPolicy(Policy):
    """Raises at every decision."""

    name = "raising"

    def place(self, task, cluster):
        """Raise."""
        raise KeyError("planted")


class LostPolicy(Policy):
    """Chooses a node that there is not."""

    name = "lost"

    def place(self, task, cluster):
        """Choose nowhere."""
        return Placement("atlantis", "planted")


def _said(task: Any) -> Mapping[str, Any]:
    return task.annotations or {}
