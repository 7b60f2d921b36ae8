"""A worker's end of what is told of a task: why it was placed here, and how long it waited.

What the dispatcher knows comes with the task, as an annotation.  When the task came
and when its inputs were there, a plugin on the worker notes by the worker's own clock.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from distributed import Worker, WorkerPlugin

from sage_dask.schedule import SAGE
from sage_dask.scheduling.on_dask.wire import PLACED
from sage_dask.spent import INPUTS, QUEUE

_NOTHING: Mapping[str, Any] = {}

# States in which a task of a worker has all its inputs.
_READY = frozenset({"ready", "constrained", "executing"})


class Arrivals(WorkerPlugin):
    """Notes when tasks of ours come to a worker, until they run.

    Tasks that are taken back before they ran are forgotten with the state that says so.
    """

    name = "sage-dask-arrivals"
    idempotent = True

    def setup(self, worker: Worker) -> None:
        """Begin on a worker."""
        self._tasks = worker.state.tasks
        self._times: dict[Any, tuple[float, float]] = {}
        """When each task came, and when its inputs were there."""

    def transition(self, key: Any, start: str, finish: str, **kwargs: Any) -> None:
        """Follow a task; called by Dask, on its loop."""
        if finish in _READY or finish == "waiting":
            times = self._times.get(key)
            if times is None:
                if SAGE not in (self._tasks[key].annotations or _NOTHING):
                    return
                now_s = time.perf_counter()
                self._times[key] = now_s, now_s
            elif finish in _READY and start == "waiting":
                self._times[key] = times[0], time.perf_counter()
        else:
            self._times.pop(key, None)

    def waits(self, key: Any) -> Mapping[str, float]:
        """Return what a task that starts now has waited for on this worker."""
        times = self._times.get(key)
        if times is None:
            return _NOTHING
        arrived_s, ready_s = times
        return {INPUTS: ready_s - arrived_s, QUEUE: time.perf_counter() - ready_s}


def told_of(worker: Worker | None, key: Any) -> tuple[Mapping[str, float], str]:
    """Return what a task that starts now has waited for, and why it was placed here.

    Nothing where no dispatcher placed it, or where nobody observes.
    """
    state = None if worker is None else worker.state.tasks.get(key)
    placed = (state.annotations or _NOTHING).get(PLACED) if state is not None else None
    if worker is None or placed is None:
        return _NOTHING, ""
    arrivals = worker.plugins.get(Arrivals.name)
    if not isinstance(arrivals, Arrivals):
        return _NOTHING, ""
    return {**placed["waits"], **arrivals.waits(key)}, placed["reason"]
