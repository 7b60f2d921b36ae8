"""What a simulation found: the numbers a real run would report, and how they are collected."""

from __future__ import annotations

import math
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sage_dask.metrics import Latencies, LatencySummary, balance
from sage_dask.scheduling.dispatcher import Dispatcher
from sage_dask.scheduling.simulation.machines import Attempt, Flow, ModelServer, SimulatedNode
from sage_dask.scheduling.statistics import DispatcherStatistics, Notice
from sage_dask.scheduling.view import Amounts, Key


@dataclass(frozen=True, slots=True)
class TaskRow:
    """One task that ran to its end, or until its node was lost."""

    key: Key
    job: str
    stage: str
    node: str
    ready_s: float
    started_s: float
    ended_s: float
    is_lost: bool = False


@dataclass(frozen=True, slots=True)
class Times:
    """How long batches took, in seconds."""

    wait: LatencySummary
    """Between ready and started, the steps of a batch added up."""
    total: LatencySummary
    """From handed over to known to be done."""


@dataclass(frozen=True, slots=True)
class ServerResult:
    """One model server, over the whole simulation."""

    seats: int
    num_served: int
    utilisation: float
    """Share of the seats' time that was used."""
    peak_seated: int
    peak_waiting: int


@dataclass(frozen=True, slots=True)
class SimulationResult:
    """One workload under one policy."""

    policy: str
    num_batches: int
    num_tasks: int
    """Tasks that ran to their end."""
    num_lost: int
    """Placements that were lost with their node; each was made again."""
    makespan_s: float
    """From the first batch handed over to the last one done."""
    times: Times
    by_job: Mapping[str, Times]
    by_priority: Mapping[float, Times]
    busy_s: Mapping[str, float]
    """Seconds for which threads were held, by node; a call to a server holds its thread."""
    tasks: Mapping[str, int]
    """Tasks that ran to their end, by node."""
    utilisation: float
    """Share of the threads' time that was used."""
    peak_nodes: int
    """Most nodes that had tasks at the same time."""
    peak_held: Mapping[str, float]
    """Most slots that were held at the same time, by gate."""
    servers: Mapping[str, ServerResult]
    statistics: DispatcherStatistics
    notices: Sequence[Notice]
    rows: Sequence[TaskRow] = ()
    """In the order of ending, if they were asked for."""

    @property
    def throughput(self) -> float:
        """Batches per second."""
        return self.num_batches / self.makespan_s if self.makespan_s else 0.0

    @property
    def num_nodes_used(self) -> int:
        """Nodes on which any task ended."""
        return sum(1 for number in self.tasks.values() if number)

    @property
    def balance_busy(self) -> float:
        """How evenly threads were used over all nodes; idle ones count as zeros."""
        return balance(list(self.busy_s.values()))

    @property
    def balance_tasks(self) -> float:
        """How evenly tasks were spread over all nodes; idle ones count as zeros."""
        return balance(list(self.tasks.values()))

    def row(self) -> dict[str, Any]:
        """Return the headline as plain values, for a table beside those of other policies."""
        return {
            "policy": self.policy,
            "batches_per_s": self.throughput,
            "mean_s": self.times.total.mean_s,
            "p50_s": self.times.total.p50_s,
            "p99_s": self.times.total.p99_s,
            "wait_p99_s": self.times.wait.p99_s,
            "utilisation": self.utilisation,
            "balance_busy": self.balance_busy,
            "balance_tasks": self.balance_tasks,
            "nodes_used": self.num_nodes_used,
            "peak_nodes": self.peak_nodes,
        }

    def __str__(self) -> str:
        total = self.times.total
        return (
            f"simulated: {self.policy} placed {self.num_tasks:,} tasks on {self.num_nodes_used} of "
            f"{len(self.tasks)} nodes in {self.makespan_s:.3f} s: {self.throughput:.1f} batches/s, "
            f"P50 {total.p50_s:.3f} s, P99 {total.p99_s:.3f} s, {100 * self.utilisation:.0f} % busy"
            f", balance {self.balance_busy:.3f} by time and {self.balance_tasks:.3f} by tasks"
        )


class _Waits:
    """Seconds of the batches of one job and priority, in the order in which they were done."""

    __slots__ = ("total_s", "wait_s")

    def __init__(self) -> None:
        self.wait_s = array("d")
        self.total_s = array("d")


class Collector:
    """Counts what happens while a simulation runs.

    Args:
        nodes: All that there will ever be.
        keep_rows: Keep a row per task, and not only sums.
    """

    def __init__(self, nodes: Sequence[SimulatedNode], keep_rows: bool) -> None:
        self.busy_s = {node.name: 0.0 for node in nodes}
        self.tasks = {node.name: 0 for node in nodes}
        self.num_batches = 0
        self.num_lost = 0
        self.peak_nodes = 0
        self.peak_held: dict[str, float] = {}
        self.rows: list[TaskRow] | None = [] if keep_rows else None
        self.first_s = math.inf
        self.last_s = 0.0
        self._held: defaultdict[str, float] = defaultdict(float)
        self._under_way: Counter[str] = Counter()
        self._waits: defaultdict[tuple[str, float], _Waits] = defaultdict(_Waits)

    def placed(self, node: str, gates: Amounts) -> None:
        """Count a task that was given a node and gate slots."""
        self._under_way[node] += 1
        self.peak_nodes = max(self.peak_nodes, len(self._under_way))
        for name, slots in gates:
            self._held[name] += slots
            self.peak_held[name] = max(self.peak_held.get(name, 0.0), self._held[name])

    def ended(self, attempt: Attempt) -> None:
        """Count a task that is known to have ended, or to be lost."""
        node, flow = attempt.worker.node.name, attempt.flow
        started_s = min(attempt.started_s, attempt.ended_s)
        self.busy_s[node] += attempt.ended_s - started_s
        if attempt.is_lost:
            self.num_lost += 1
        else:
            self.tasks[node] += 1
            flow.waited_s += started_s - flow.ready_s
        self._under_way[node] -= 1
        if not self._under_way[node]:
            del self._under_way[node]
        for name, slots in attempt.step.demand.gates:
            self._held[name] -= slots
        if self.rows is not None:
            self.rows.append(_row(attempt, started_s))

    def done(self, flow: Flow, now_s: float) -> None:
        """Count a batch whose last step is known to have ended."""
        self.num_batches += 1
        self.first_s = min(self.first_s, flow.arrived_s)
        self.last_s = now_s
        waits = self._waits[flow.stream.job, flow.batch.priority]
        waits.wait_s.append(flow.waited_s)
        waits.total_s.append(now_s - flow.arrived_s)

    def result(
        self,
        dispatcher: Dispatcher,
        notices: Sequence[Notice],
        nodes: Sequence[SimulatedNode],
        servers: Mapping[str, ModelServer],
    ) -> SimulationResult:
        """Return everything, when all is done."""
        makespan_s = max(0.0, self.last_s - self.first_s)
        jobs = {job for job, _ in self._waits}
        priorities = {priority for _, priority in self._waits}
        everything = _times(self._waits.values())
        threads_s = sum(
            _present_s(node, self.first_s, self.last_s) * node.threads for node in nodes
        )
        return SimulationResult(
            policy=str(dispatcher.policy),
            num_batches=self.num_batches,
            num_tasks=sum(self.tasks.values()),
            num_lost=self.num_lost,
            makespan_s=makespan_s,
            times=everything,
            # A single group is everything; summing up a million batches again would tell nothing.
            by_job={
                job: everything
                if len(jobs) == 1
                else _times(waits for (of, _), waits in self._waits.items() if of == job)
                for job in sorted(jobs)
            },
            by_priority={
                priority: everything
                if len(priorities) == 1
                else _times(waits for (_, of), waits in self._waits.items() if of == priority)
                for priority in sorted(priorities)
            },
            busy_s=self.busy_s,
            tasks=self.tasks,
            utilisation=sum(self.busy_s.values()) / threads_s if threads_s else 0.0,
            peak_nodes=self.peak_nodes,
            peak_held=self.peak_held,
            servers={
                name: ServerResult(
                    server.seats,
                    server.num_served,
                    server.busy_s / (server.seats * makespan_s) if makespan_s else 0.0,
                    server.peak_seated,
                    server.peak_waiting,
                )
                for name, server in servers.items()
            },
            statistics=dispatcher.statistics(self.last_s),
            notices=notices,
            rows=self.rows or (),
        )


def _row(attempt: Attempt, started_s: float) -> TaskRow:
    flow = attempt.flow
    return TaskRow(
        attempt.key,
        flow.stream.job,
        attempt.step.stage,
        attempt.worker.node.name,
        flow.ready_s,
        started_s,
        attempt.ended_s,
        attempt.is_lost,
    )


def _times(groups: Iterable[_Waits]) -> Times:
    wait, total = Latencies(), Latencies()
    for waits in groups:
        for wait_s, total_s in zip(waits.wait_s, waits.total_s, strict=True):
            wait.add(wait_s, 1)
            total.add(total_s, 1)
    return Times(wait.summary(), total.summary())


def _present_s(node: SimulatedNode, from_s: float, to_s: float) -> float:
    """Return for how long a node was there in a span of time."""
    left_s = to_s if node.leaves_s is None else min(to_s, node.leaves_s)
    return max(0.0, left_s - max(from_s, node.joins_s))
