"""The placement policies side by side, on real nodes and on the simulator.

Sixteen nodes of eight threads are sixteen processes here, and tasks sleep, so
the scheduler, its messages and its decisions are real and only the work is not.
Each scenario runs under every policy in one go, Dask's own placement among them,
and once more on the simulator, with the same arrivals and durations.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from sage_dask.cluster import LocalNodes
from sage_dask.experiments.outcome import Outcome, Ran, outcome
from sage_dask.experiments.replay import SLOT, replay
from sage_dask.experiments.table import Row
from sage_dask.schedule import STOCK
from sage_dask.scheduling.simulation.machines import SimulatedNode
from sage_dask.scheduling.simulation.scenario import Scenario
from sage_dask.scheduling.simulation.simulate import simulate
from sage_dask.scheduling.simulation.workload import Poisson, Stream, uniform
from sage_dask.scheduling.view import demand

NUM_NODES, THREADS = 16, 8
NUM_TASKS = 5_000
GATE = {"server": 32.0}
SHORTEST_S, LONGEST_S = 0.010, 0.400
MEAN_S = (SHORTEST_S + LONGEST_S) / 2
OURS = ("fifo", "round-robin", "spread", "pack", "priority")

# Two nodes of sixteen are three times slower, neither the first nor the last by name.
SLOW = {"node-5": 3.0, "node-11": 3.0}

# Where a share of the full load would take more than 60 % of two cores, everything takes longer.
STRETCH = 3.0


@dataclass(frozen=True)
class Trial:
    """One scenario, who is compared in it, and what is wanted of whom."""

    name: str
    scenario: Scenario
    policies: Sequence[str] = (STOCK, *OURS)
    wanted: Mapping[str, str] = field(default_factory=dict)


def nodes(slow: Mapping[str, float] | None = None) -> list[SimulatedNode]:
    """Return the nodes as the simulator knows them."""
    names = [f"node-{number}" for number in range(NUM_NODES)]
    return [SimulatedNode(name, THREADS, slowdown=(slow or {}).get(name, 1.0)) for name in names]


def open_loop(
    share: float, slow: Mapping[str, float] | None = None, stretch: float = 1.0
) -> Scenario:
    """Return tasks that come at random times and keep a share of all threads busy."""
    machines = nodes(slow)
    capacity = sum(node.threads / node.slowdown for node in machines)
    rate_per_s = share * capacity / (MEAN_S * stretch)
    draw = uniform(SHORTEST_S * stretch, LONGEST_S * stretch)
    arrivals = Poisson(rate_per_s, NUM_TASKS, draw)
    return Scenario(machines, [Stream("main/1", arrivals)])


def closed_loop() -> Scenario:
    """Return tasks that all wait from the start, before a gate."""
    draw = uniform(SHORTEST_S, LONGEST_S, demand=demand(gates={"server": 1}))
    waiting = Poisson(math.inf, NUM_TASKS, draw)
    return Scenario(nodes(), [Stream("main/1", waiting)], gates=GATE)


def two_classes(*, low: bool) -> Scenario:
    """Return a few urgent tasks at random times, before a gate that others keep full."""
    needs = demand(gates={"server": 1})
    draw = uniform(SHORTEST_S, LONGEST_S, demand=needs)
    urgent = Poisson(20.0, 400, draw, seed=1, priority=10.0)
    streams = [Stream("high/1", urgent)]
    if low:
        streams.append(Stream("low/1", Poisson(math.inf, 3_000, draw, seed=2)))
    return Scenario(nodes(), streams, gates=GATE)


TRIALS = (
    Trial(
        "20 % load",
        open_loop(0.20),
        wanted={"spread": "busy >= 0.97", "round-robin": "counts >= 0.99"},
    ),
    Trial(
        "gate of 32",
        closed_loop(),
        wanted={"spread": "busy >= 0.97", "round-robin": "counts >= 0.99"},
    ),
    Trial(
        "25 % load",
        open_loop(0.25),
        policies=(STOCK, "spread", "pack"),
        wanted={"pack": "<= 5 nodes, P99 <= 1.5 x spread's"},
    ),
    Trial(
        f"70 % load, two slow, x {STRETCH:g}",
        open_loop(0.70, SLOW, STRETCH),
        wanted={"spread": "P99 <= every other's"},
    ),
)


def placement() -> Iterator[Row]:
    """Run all trials on real nodes, and each on the simulator too."""
    with ExitStack() as stack:
        machines = stack.enter_context(
            LocalNodes(
                NUM_NODES,
                threads=THREADS,
                resources={SLOT: GATE["server"] / NUM_NODES},
                dashboard=None,
            )
        )
        for trial in TRIALS:
            yield from _rows(trial, machines)
        yield from _priority_rows(machines)


def _rows(trial: Trial, machines: LocalNodes) -> Iterator[Row]:
    stock: Outcome | None = None
    for policy in trial.policies:
        real = measured(trial.scenario, machines, policy)
        stock = stock or real
        yield Row(
            f"{trial.name}: {policy}",
            _told(real),
            f"P99 {stock.latency.p99_s:.3f} s with {STOCK}",
            real.latency.p99_s / stock.latency.p99_s,
            trial.wanted.get(policy, ""),
        )
        if policy != STOCK:
            yield _agreement(trial.name, policy, real, simulated(trial.scenario, policy))


def _priority_rows(machines: LocalNodes) -> Iterator[Row]:
    alone = _urgent(two_classes(low=False), machines, "priority")
    for policy in (STOCK, "spread", "priority"):
        beside = _urgent(two_classes(low=True), machines, policy)
        yield Row(
            f"high class among 3,000 low ones: {policy}",
            f"P99 {beside.latency.p99_s:.3f} s",
            f"P99 {alone.latency.p99_s:.3f} s alone",
            beside.latency.p99_s / alone.latency.p99_s,
            "<= 1.2, all low ones done" if policy == "priority" else "",
        )


def _urgent(scenario: Scenario, machines: LocalNodes, policy: str) -> Outcome:
    """Return what became of the high class; that the others ended is checked by their results."""
    found = replay(scenario, machines, policy)
    return outcome([row for row in found.rows if row.priority], machines.names, found.cpu_share)


def measured(scenario: Scenario, machines: LocalNodes, policy: str) -> Outcome:
    """Return what a scenario came to on real nodes."""
    found = replay(scenario, machines, policy)
    return outcome(found.rows, machines.names, found.cpu_share)


def simulated(scenario: Scenario, policy: str, **options: Any) -> Outcome:
    """Return what a scenario came to on the simulator, counted as a real one."""
    result = simulate(scenario, policy, keep_rows=True, **options)
    rows = [
        Ran(row.ready_s, row.started_s, row.ended_s, row.node)
        for row in result.rows
        if not row.is_lost
    ]
    return outcome(rows, [node.name for node in scenario.nodes])


def _agreement(name: str, policy: str, real: Outcome, model: Outcome) -> Row:
    return Row(
        f"{name}: {policy}, simulated",
        _told(model),
        f"{real.throughput:.1f} tasks/s for real: {model.throughput / real.throughput:.3f}",
        model.latency.p99_s / real.latency.p99_s,
        "tasks/s within 10 %, P99 within 20 %",
    )


def _told(found: Outcome) -> str:
    cores = "" if found.cpu_share is None else f", cores {found.cpu_share:.0%}"
    return (
        f"P99 {found.latency.p99_s:.3f} s, {found.num_nodes_used} nodes, busy "
        f"{found.balance_of_busy_time:.3f} counts {found.balance_of_tasks:.3f}{cores}"
    )
