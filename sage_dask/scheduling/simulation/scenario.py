"""What is simulated: a cluster with its delays, and the work that it is given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sage_dask.scheduling.simulation.machines import SimulatedNode
from sage_dask.scheduling.simulation.workload import Stream


@dataclass(frozen=True, slots=True)
class Overheads:
    """What a cluster adds to the work itself; a thread is idle meanwhile.

    The defaults are a local cluster's: messages are sent in batches every 2 ms, and a worker
    needs about a millisecond of its own on either side of a task.
    """

    start_s: float = 0.003
    """Between the decision and the start on a thread that is free."""
    report_s: float = 0.003
    """Between the end on the thread and the decisions that it makes possible."""
    bytes_per_s: float = 100e6
    """Speed at which inputs move between nodes, before the start."""


@dataclass(frozen=True, slots=True)
class GateChange:
    """Another limit for a gate, from some time on."""

    at_s: float
    gate: str
    limit: float | None


@dataclass(frozen=True)
class Scenario:
    """A cluster and the work that it is given."""

    nodes: Sequence[SimulatedNode]
    streams: Sequence[Stream]
    gates: Mapping[str, float] = field(default_factory=dict)
    gate_changes: Sequence[GateChange] = ()
    servers: Mapping[str, int] = field(default_factory=dict)
    """Seats of the model servers, by name."""
    overheads: Overheads = field(default_factory=Overheads)
    longest_s: float = 86_400.0
    """Simulated seconds after which it is given up."""
