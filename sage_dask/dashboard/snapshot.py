"""All that is shown of a cluster at one moment, and what may be done to it.

The page, the metrics and the terminal read a snapshot and nothing else, so all
of them say the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from sage_dask.dashboard.board import JobView
from sage_dask.scheduling.statistics import DispatcherStatistics, Notice


@dataclass(frozen=True, slots=True)
class NodeLoad:
    """One node as Dask knows it; the dispatcher's counts of it stand in its statistics."""

    name: str
    num_workers: int
    num_threads: int
    memory: float | None
    """Share in use of the worker that is shortest of it; None where nobody knows."""
    cpu: float | None
    """Share of its processor in use."""
    num_paused: int
    """Workers that take no tasks: short of memory, or on their way out."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A cluster at one moment."""

    now_s: float
    """By the scheduler's clock, that of the jobs' points and of decisions."""
    jobs: Sequence[JobView]
    """Those that run first, each group the latest first."""
    scheduling: DispatcherStatistics | None
    """None where Dask places all tasks."""
    nodes: Sequence[NodeLoad]
    """In the order of their names."""
    notices: Sequence[tuple[float, Notice]]
    """What people should know and when it was said, the latest last."""
    may_control: bool
    """Whether the actions may be used."""
    num_observer_errors: int = 0
    """How often observing itself went wrong; no task is the worse for it, but what is shown may
    lack something."""


class Actions(Protocol):
    """What may be done to a cluster from its dashboard, if it was started so."""

    def pause(self, job: str) -> None:
        """Have a job start nothing until it is resumed."""
        ...

    def resume(self, job: str) -> None:
        """Have a job go on."""
        ...

    def cancel(self, job: str) -> None:
        """End a job; what is done is kept, and it may be resumed where it has a run folder."""
        ...

    def set_policy(self, policy: str) -> None:
        """Have another policy decide.

        Raises:
            PlanError: Nobody knows it.
        """
        ...

    def set_gate(self, name: str, limit: float | None) -> None:
        """Set the slots of a gate, or of a model server by its URL; None for what is found.

        Raises:
            PlanError: The limit makes no sense.
        """
        ...
