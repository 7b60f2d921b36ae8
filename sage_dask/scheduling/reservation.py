"""The bound on waiting: a place kept for a task that others keep overtaking.

A task that needs much (four slots of a gate, all GPUs of a worker) could wait
for ever while smaller ones take every piece as it comes back.  The first line of
all that has been blocked for longer than the patience gets a reservation for
its head: nobody else takes slots of its gates that it will need, nor those
resources of one worker that it lacks, until it starts.  There is one reservation at a
time, so two can not wait for each other, and what it collects only grows.  A
resource that it did not lack at first can be taken from it once, so it starts
at the latest after the patience and, for each of its resources and for its
gates, the longest of the tasks that were running.
"""

from __future__ import annotations

from sage_dask.scheduling.gate import Gates
from sage_dask.scheduling.nodes import Nodes, Worker
from sage_dask.scheduling.queue import Entry, Line
from sage_dask.scheduling.view import Demand, Fit


class Reservations:
    """Who is first and blocked, since when, and what is kept for it.

    Args:
        patience_s: How long the first task of all may be blocked by others.
    """

    def __init__(self, nodes: Nodes, gates: Gates, patience_s: float) -> None:
        self.patience_s = patience_s
        self._nodes = nodes
        self._gates = gates
        self._oldest_s: float | None = None
        self._entry: Entry | None = None
        self._worker: str | None = None

    @property
    def entry(self) -> Entry | None:
        """The task for which a place is kept."""
        return self._entry

    @property
    def until_s(self) -> float | None:
        """When the blocked task will have waited long enough; None while that is not the case."""
        if self._entry is not None or self._oldest_s is None:
            return None
        return self._oldest_s + self.patience_s

    def is_due(self, line: Line, now_s: float) -> bool:
        """Return whether a line has been blocked for longer than the patience."""
        since_s = line.blocked_since_s
        return since_s is not None and now_s >= since_s + self.patience_s

    def note(self, due: Line | None, oldest_s: float | None) -> bool:
        """Keep a place for the head of a line, unless there is one for another."""
        self._oldest_s = oldest_s
        if self._entry is not None or due is None:
            return False
        self._entry = due.head
        return True

    def closes(self, demand: Demand) -> bool:
        """Return whether a task may not start because slots of its gates are kept."""
        if self._entry is None or not demand.gates:
            return False
        kept = dict(self._entry.task.demand.gates)
        return any(
            not self._gates[name].has_room(kept[name] + slots)
            for name, slots in demand.gates
            if name in kept
        )

    def collect(self, fit: Fit) -> Worker | None:
        """Return the worker on which all is there by now, or keep what comes back to it."""
        worker = self._chosen(fit)
        if worker is None or worker.has_room(fit):
            return worker
        self._nodes.withhold(worker.address, worker.withheld | worker.lacking(fit))
        return None

    def clear(self) -> None:
        """Give up what is kept: the task started, or nobody wants it any more."""
        self._release()
        self._entry = self._oldest_s = None

    def _release(self) -> None:
        if self._worker is not None:
            self._nodes.withhold(self._worker, frozenset())
            self._worker = None

    def _chosen(self, fit: Fit) -> Worker | None:
        """Return the worker on which room is made: at first the one that lacks least."""
        chosen = self._nodes.workers.get(self._worker or "")
        if chosen is not None and chosen.is_running and chosen.supplies(fit):
            return chosen
        self._release()
        able = [w for w in self._nodes.workers.values() if w.is_running and w.supplies(fit)]
        if not able:
            return None
        # Nobody knows when a cancelled task ends.
        worker = min(
            able,
            key=lambda each: (each.num_abandoned, _shortfall(each, fit), each.address),
        )
        self._worker = worker.address
        return worker


def _shortfall(worker: Worker, fit: Fit) -> float:
    """Return what a worker lacks for a task, as shares of what it has, added up."""
    return sum(
        max(0.0, amount - worker.free[name]) / worker.capacity[name]
        for name, amount in fit.amounts
        if amount
    )
