"""What a decision costs, and how far the simulator reaches."""

from __future__ import annotations

import time
from collections.abc import Iterator
from statistics import median

from sage_dask.experiments.table import Row
from sage_dask.scheduling.dispatcher import Dispatcher
from sage_dask.scheduling.nodes import WorkerInfo
from sage_dask.scheduling.simulation.machines import equal_nodes
from sage_dask.scheduling.simulation.scenario import Scenario
from sage_dask.scheduling.simulation.simulate import simulate
from sage_dask.scheduling.simulation.workload import Poisson, Stream, uniform
from sage_dask.scheduling.view import TaskView

NUM_QUEUED = 100_000
THREADS = 8
POLICIES = ("fifo", "round-robin", "spread", "pack", "priority")


def decisions() -> Iterator[Row]:
    """Measure one decision on a full cluster with a long queue."""
    for num_nodes, wanted_us in ((16, 60), (1_000, 200)):
        for policy in POLICIES:
            seconds = median(decision_s(policy, num_nodes) for _ in range(3))
            yield Row(
                f"one decision, {policy}, {num_nodes:,} nodes, {NUM_QUEUED:,} queued",
                f"{1e6 * seconds:.0f} µs",
                f"{wanted_us} µs wanted",
                1e6 * seconds / wanted_us,
                f"<= {wanted_us} µs",
            )


def decision_s(policy: str, num_nodes: int, num_decisions: int = 5_000) -> float:
    """Return the seconds of CPU per decision, each after one task has ended."""
    dispatcher = Dispatcher(policy)
    for number in range(num_nodes):
        name = f"node-{number:04}"
        dispatcher.worker_joined(WorkerInfo(name, name, THREADS), 0.0)
    for number in range(NUM_QUEUED):
        task = TaskView(number, f"p/{number % 4}", "s", arrived_s=1e-3 * number, rank=(number,))
        dispatcher.task_ready(task, 0.0)
    running = [start.key for start in dispatcher.dispatch(0.0)]
    spent_s = 0.0
    for number in range(num_decisions):
        now_s = 1e-3 * (number + 1)
        dispatcher.task_ended(running[number], now_s, seconds=0.2)
        began = time.thread_time()
        running += [start.key for start in dispatcher.dispatch(now_s)]
        spent_s += time.thread_time() - began
    return spent_s / num_decisions


def simulator() -> Iterator[Row]:
    """Measure the simulator on a cluster that nobody has here."""
    num_nodes, num_tasks = 1_000, 1_000_000
    rate_per_s = 0.8 * num_nodes * THREADS / 0.205
    arrivals = Poisson(rate_per_s, num_tasks, uniform(0.010, 0.400))
    scenario = Scenario(equal_nodes(num_nodes, THREADS), [Stream("main/1", arrivals)])
    began = time.perf_counter()
    result = simulate(scenario, "spread")
    seconds = time.perf_counter() - began
    yield Row(
        f"simulated: {num_nodes:,} nodes, {num_tasks:,} tasks at 80 % load",
        f"{seconds:.0f} s ({1e6 * seconds / num_tasks:.0f} µs per task)",
        f"{result.makespan_s:.0f} s simulated",
        seconds / 120,
        "< 120 s",
    )
