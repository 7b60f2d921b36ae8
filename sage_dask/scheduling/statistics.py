"""What the dispatcher tells of itself: counts, starts and notices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sage_dask.scheduling.gate import GateStatistics
from sage_dask.scheduling.jobs import JobStatistics
from sage_dask.scheduling.servers import ServerStatistics
from sage_dask.scheduling.view import Key


@dataclass(frozen=True, slots=True)
class Start:
    """An instruction: start this task on that worker, now."""

    key: Key
    worker: str
    """Address of the process."""
    node: str
    reason: str
    waits: Mapping[str, float]
    """What it has waited for, in seconds by the names in ``spent``."""


@dataclass(frozen=True, slots=True)
class Decision:
    """A start, as people look at it later."""

    at_s: float
    """By the shell's clock."""
    key: Key
    job: str
    stage: str
    node: str
    reason: str


@dataclass(frozen=True, slots=True)
class Notice:
    """Something that somebody should know, in a sentence that says how to mend it."""

    kind: str
    """``"unplaceable"``, ``"abandoned"``, ``"policy"``, ``"annotation"``, ``"drift"``,
    ``"version"`` or, of what is shown, ``"monitor"``.
    """
    text: str


@dataclass(frozen=True, slots=True)
class NodeStatistics:
    """One node at one moment."""

    threads: float
    in_flight: int
    num_placed: int
    """Tasks that were ever placed on it."""
    placed_s: float
    """What those took, or are expected to take while they run."""
    slowdown: float
    num_waiting: int
    """Of the tasks in flight, those that wait for others and take no thread."""
    idle_s: float | None
    """For how long it has had no task; None while it has any."""


@dataclass(frozen=True, slots=True)
class DispatcherStatistics:
    """The dispatcher at one moment."""

    policy: str
    num_queued: int
    num_running: int
    num_abandoned: int
    """Cancelled tasks that are still running and keep what they hold."""
    num_decisions: int
    num_reserved: int
    """Decisions for tasks that had waited so long that a place was kept for them."""
    num_policy_errors: int
    decisions: Mapping[str, int]
    """By policy."""
    latest: Sequence[Decision]
    """The last few, the latest last."""
    paused: Sequence[str]
    """Jobs that start nothing until they are resumed."""
    gates: Mapping[str, GateStatistics]
    servers: Mapping[str, ServerStatistics]
    """By endpoint."""
    jobs: Mapping[str, JobStatistics]
    nodes: Mapping[str, NodeStatistics]
