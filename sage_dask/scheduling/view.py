"""What a policy is shown: one task, one node, and nothing that could be changed.

A node is a machine: several worker processes on it count as one.  Times are
seconds of the shell's clock, of which only differences mean anything.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, TypeAlias

from sage_dask.schedule import THREADS

Key: TypeAlias = Hashable

# Sums of fractions such as 0.1 are not exact; what is short by less than this is there.
EPSILON = 1e-9

Amounts: TypeAlias = tuple[tuple[str, float], ...]

_NOWHERE: Mapping[str, int] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Fit:
    """What one worker must have free to take a task."""

    amounts: Amounts = ((THREADS, 1.0),)
    """Resources by name, in the order of names."""
    workers: frozenset[str] | None = None
    """Addresses of the workers that may take it; None for any."""


@dataclass(frozen=True, slots=True)
class Demand:
    """All that a task holds while it runs; it gets everything at once or waits.

    Nothing is ever held while waiting for more, so tasks can not block each other in a circle.
    """

    fit: Fit = field(default_factory=Fit)
    gates: Amounts = ()
    """Slots of cluster-wide gates by name, in the order of names."""
    endpoints: tuple[str, ...] = ()
    """Model servers that it sends requests to, each request to any of them."""

    @property
    def threads(self) -> float:
        """Threads that it computes with; 0 for a task that waits for others."""
        return dict(self.fit.amounts).get(THREADS, 0.0)

    @property
    def amounts(self) -> Amounts:
        """Resources of the worker and slots of the cluster."""
        return self.fit.amounts + self.gates

    def __str__(self) -> str:
        named = [f"{name}={amount:g}" for name, amount in self.fit.amounts]
        named += [f"gate {name}={slots:g}" for name, slots in self.gates]
        if self.fit.workers is not None:
            named.append(f"on {' or '.join(sorted(self.fit.workers))}")
        if self.endpoints:
            named.append(f"requests to {' or '.join(self.endpoints)}")
        return ", ".join(named)


def demand(
    resources: Mapping[str, float] | None = None,
    gates: Mapping[str, float] | None = None,
    *,
    threads: float = 1,
    workers: frozenset[str] | None = None,
    endpoints: tuple[str, ...] = (),
) -> Demand:
    """Return the demand of a task that takes a thread, and what is named."""
    amounts = {THREADS: float(threads), **(resources or {})}
    return Demand(Fit(_named(amounts), workers), _named(gates or {}), endpoints)


def _named(amounts: Mapping[str, float]) -> Amounts:
    """Order amounts by name; who needs nothing of a kind may go where there is none of it."""
    return tuple(sorted((name, amount) for name, amount in amounts.items() if amount))


@dataclass(frozen=True, slots=True)
class TaskView:
    """One task that is ready to run."""

    key: Key
    job: str
    stage: str
    """Tasks of one stage are expected to take about equally long."""
    demand: Demand = field(default_factory=Demand)
    priority: float = 0.0
    """Of its job, stage and record together; higher is more urgent."""
    arrived_s: float = 0.0
    """When its job handed it over, inputs ready or not."""
    ready_s: float = 0.0
    """When it could have run first."""
    rank: tuple[Any, ...] = ()
    """Place within its job; smaller goes first."""
    inputs: Mapping[str, int] = field(default_factory=lambda: _NOWHERE)
    """Bytes of its inputs by the node where they lie."""
    inputs_bytes: int = 0
    """Bytes of all its inputs."""
    requests: int = 0
    """How many requests it is expected to send, where it sends any."""


@dataclass(frozen=True, slots=True)
class NodeView:
    """One node at the moment of a decision."""

    name: str
    threads: float
    in_flight: int
    """Tasks placed on it that have not ended."""
    outstanding_s: float
    """Measured durations of those tasks, added up, as if it were an average node."""
    recent_s: float
    """Work that it was given, newer work counting more: only good for comparing nodes."""
    slowdown: float
    """How many times longer than elsewhere tasks take here; 1.0 while that is not certain."""
    typical_s: float
    """What tasks of all stages took lately, on average."""
    memory: float | None
    """Share of its memory in use; None where that is unknown or stale."""
    cpu: float | None
    """Share of its processor in use, by anyone; None where that is unknown or stale."""
    idle_since_s: float | None
    """When its last task ended, or it joined; None while it has tasks."""
    free_since_s: float
    """Since when its longest idle thread has been idle."""
    last_placed: int
    """Number of the decision that last chose it; 0 for none."""
    num_waiting: int = 0
    """Of the tasks in flight, those that wait for others and take no thread."""

    @property
    def num_computing(self) -> int:
        """Tasks in flight that take threads."""
        return self.in_flight - self.num_waiting

    @property
    def load(self) -> float:
        """Work ahead of a new task, in typical tasks per thread; 1.0 is a full node."""
        return self.outstanding_s / self.typical_s / self.threads
