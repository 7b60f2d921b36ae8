"""What it costs to be seen: the same work on two clusters, one of which nobody observes.

Not observed, no waits are measured, no news goes to the scheduler, and no plugin
follows tasks on workers.  Runs are taken in turn, since the speed of a shared
machine drifts by more than what is measured.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from statistics import median

import dask
import psutil

from sage_dask.cluster import LocalNodes
from sage_dask.experiments.table import Row
from sage_dask.experiments.work import Discard, Numbers, first
from sage_dask.pipeline import Pipeline

NUM_TASKS = 3_000
ROUNDS = 9

# Transitions that the scheduler makes of one task of ours, until it is forgotten.
TRANSITIONS = 7


def observing() -> Iterator[Row]:
    """Measure throughput and CPU of one-record tasks that do nothing, seen and unseen."""
    with ExitStack() as stack:
        seen, unseen = (stack.enter_context(_Side(is_seen)) for is_seen in (True, False))
        pairs = [(seen.run(), unseen.run()) for _ in range(ROUNDS + 1)][1:]
    rates = [(a.tasks_per_s, b.tasks_per_s) for a, b in pairs]
    ratios = sorted(a / b for a, b in rates)
    yield Row(
        f"{NUM_TASKS:,} no-op tasks, one at a time on 2 nodes",
        f"{median(a for a, _ in rates):.0f} tasks/s ({ratios[0]:.2f} to {ratios[-1]:.2f})",
        f"{median(b for _, b in rates):.0f} tasks/s unseen",
        median(ratios),
        ">= 0.97 of unseen",
    )
    for name in ("driver_us", "workers_us"):
        what = {"driver_us": "driver and scheduler", "workers_us": "workers"}[name]
        costs = [(getattr(a, name), getattr(b, name)) for a, b in pairs]
        more_us = median(a - b for a, b in costs)
        yield Row(
            f"CPU per task, {what}",
            f"{median(a for a, _ in costs):.0f} µs: {more_us:+.0f} µs",
            f"{median(b for _, b in costs):.0f} µs unseen",
            median(a / b for a, b in costs),
            "",
        )
        if name == "driver_us":
            yield Row(
                "the same, per transition of the scheduler",
                f"{more_us / TRANSITIONS:+.1f} µs",
                "20 µs wanted",
                more_us / TRANSITIONS / 20,
                "<= 20 µs",
            )


class _Measured:
    """One run."""

    def __init__(self, makespan_s: float, driver_s: float, workers_s: float) -> None:
        self.tasks_per_s = NUM_TASKS / makespan_s
        self.driver_us = 1e6 * driver_s / NUM_TASKS
        self.workers_us = 1e6 * workers_s / NUM_TASKS


class _Side:
    """A cluster of two nodes, observed or not, and runs on it; driver and scheduler are here."""

    def __init__(self, is_seen: bool) -> None:
        self._settings = {"sage.observe": is_seen}
        self._stack = ExitStack()

    def __enter__(self) -> _Side:
        with dask.config.set(self._settings):
            self._nodes = self._stack.enter_context(LocalNodes(2, dashboard=0))
        pids = self._nodes.client.run(os.getpid).values()
        self._workers = [psutil.Process(pid) for pid in pids]
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def run(self) -> _Measured:
        """Run once."""
        pipeline = Pipeline("no_ops").source(Numbers(NUM_TASKS)).map(first).sink(Discard())
        before = self._spent_s()
        with dask.config.set(self._settings):
            report = pipeline.run(self._nodes, batch_size=1, max_in_flight=16)
        driver_s, workers_s = (b - a for a, b in zip(before, self._spent_s(), strict=True))
        return _Measured(report.makespan_s, driver_s, workers_s)

    def _spent_s(self) -> tuple[float, float]:
        return _cpu_s(psutil.Process()), sum(map(_cpu_s, self._workers))


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)
