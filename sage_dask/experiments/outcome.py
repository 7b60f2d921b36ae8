"""What a scenario came to, counted the same way whether it was run or simulated."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sage_dask.metrics import Latencies, LatencySummary, balance


@dataclass(frozen=True, slots=True)
class Ran:
    """One task that ran."""

    arrived_s: float
    started_s: float
    ended_s: float
    node: str
    priority: float = 0.0

    @property
    def latency_s(self) -> float:
        """From its scheduled arrival to its end."""
        return self.ended_s - self.arrived_s


@dataclass(frozen=True, slots=True)
class Outcome:
    """One scenario under one policy."""

    num_tasks: int
    throughput: float
    """Tasks per second, from the first arrival to the last end."""
    latency: LatencySummary
    balance_of_tasks: float
    balance_of_busy_time: float
    num_nodes_used: int
    busy_threads: float
    """Threads at work on average."""
    cpu_share: float | None = None
    """Share of the machine's cores in use meanwhile; None for a simulation."""


def outcome(rows: Iterable[Ran], nodes: Sequence[str], cpu_share: float | None = None) -> Outcome:
    """Count tasks that ran.

    Args:
        rows: The tasks, in any order.
        nodes: All nodes of the cluster; those without tasks count as zeros.
        cpu_share: Noted as it is.
    """
    tasks, busy_s = dict.fromkeys(nodes, 0), dict.fromkeys(nodes, 0.0)
    latencies = Latencies()
    first_s, last_s = float("inf"), float("-inf")
    for row in rows:
        tasks[row.node] += 1
        busy_s[row.node] += row.ended_s - row.started_s
        latencies.add(row.latency_s, 1)
        first_s, last_s = min(first_s, row.arrived_s), max(last_s, row.ended_s)
    span_s = last_s - first_s
    return Outcome(
        num_tasks=sum(tasks.values()),
        throughput=sum(tasks.values()) / span_s,
        latency=latencies.summary(),
        balance_of_tasks=balance(list(tasks.values())),
        balance_of_busy_time=balance(list(busy_s.values())),
        num_nodes_used=sum(1 for number in tasks.values() if number),
        busy_threads=sum(busy_s.values()) / span_s,
        cpu_share=cpu_share,
    )
