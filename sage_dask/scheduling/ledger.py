"""Who holds what: one lease per task that was started and has not ended.

A lease is given back in the very event that ends its task.  One whose task was
cancelled while it ran is kept until the worker is known to be done with it: the
thread and the call to the model server go on, whatever the scheduler thinks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from sage_dask.scheduling.view import Key, TaskView


@dataclass(slots=True)
class Lease:
    """What one task holds, and where."""

    task: TaskView
    worker: str
    node: str
    started_s: float
    charged_s: float
    """What its job was charged for it at the start."""
    outstanding: int = 0
    """Requests that it has yet to send or to get answers to."""
    abandoned_s: float | None = None
    """When it was cancelled, if it was."""
    is_reported: bool = False
    """Whether people were told that it does not end."""


class Ledger:
    """All leases."""

    def __init__(self) -> None:
        self._running: dict[Key, Lease] = {}
        # The same task may be asked for again while a worker is still at it.
        self._abandoned: dict[tuple[Key, str], Lease] = {}

    @property
    def running(self) -> Mapping[Key, Lease]:
        """Leases of tasks that somebody wants."""
        return self._running

    @property
    def abandoned(self) -> Mapping[tuple[Key, str], Lease]:
        """Leases of tasks that were cancelled and are still running, by task and worker."""
        return self._abandoned

    def __iter__(self) -> Iterator[Lease]:
        yield from self._running.values()
        yield from self._abandoned.values()

    def __len__(self) -> int:
        return len(self._running) + len(self._abandoned)

    def open(self, lease: Lease) -> Lease | None:
        """Note a start; return the abandoned lease that it takes over, if there is one.

        A worker that is asked for a task it is still at does not start it a second time.
        """
        self._running[lease.task.key] = lease
        return self._abandoned.pop((lease.task.key, lease.worker), None)

    def close(self, key: Key) -> Lease | None:
        """Note an end; None where the task holds nothing."""
        return self._running.pop(key, None)

    def abandon(self, key: Key, now_s: float) -> Lease | None:
        """Note that nobody wants a running task any more."""
        lease = self._running.pop(key, None)
        if lease is not None:
            lease.abandoned_s = now_s
            self._abandoned[key, lease.worker] = lease
        return lease

    def find(self, key: Key, worker: str) -> Lease | None:
        """Return the lease of a task on a worker, whether or not anybody wants it."""
        lease = self._running.get(key)
        if lease is not None and lease.worker == worker:
            return lease
        return self._abandoned.get((key, worker))

    def close_abandoned(self, key: Key, worker: str) -> Lease | None:
        """Note that a worker is done with a cancelled task."""
        return self._abandoned.pop((key, worker), None)
