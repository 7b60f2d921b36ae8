"""What late binding costs the scheduler, against Dask's own placement of the same graph.

The scheduler is a process of its own, and its CPU time is read from outside.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median

import dask
import psutil
from dask._task_spec import Task
from distributed import Client, Worker

from sage_dask.experiments.table import Row
from sage_dask.schedule import SAGE
from sage_dask.scheduling.on_dask.control import SchedulerControl

NUM_TASKS = 5_000
NUM_WORKERS, THREADS = 16, 8
ROUNDS = 7

_START_TIMEOUT_S = 60


def no_op(number: int) -> int:
    """Return the number: work that costs nothing but its way."""
    return number


def scheduler_cost() -> Iterator[Row]:
    """Measure the scheduler's CPU per task, in turn with and without the dispatcher."""
    with _cluster() as (client, scheduler):
        control = SchedulerControl(client)
        control.start()
        _spent_s(client, scheduler, is_ours=False)
        pairs = [
            (
                _spent_s(client, scheduler, is_ours=True),
                _spent_s(client, scheduler, is_ours=False),
            )
            for _ in range(ROUNDS)
        ]
    ours, stock = (1e6 * median(column) / NUM_TASKS for column in zip(*pairs, strict=True))
    ratios = sorted(ours_s / stock_s for ours_s, stock_s in pairs)
    yield Row(
        f"scheduler CPU per task, graph of {NUM_TASKS:,}, {NUM_WORKERS} x {THREADS}",
        f"{ours:.0f} µs (ratios {ratios[0]:.2f} to {ratios[-1]:.2f})",
        f"{stock:.0f} µs with dask",
        median(ratios),
        "<= 1.3",
    )


def _spent_s(client: Client, scheduler: psutil.Process, *, is_ours: bool) -> float:
    """Return the CPU seconds that the scheduler spends on one graph of tasks, to its end."""
    run = secrets.token_hex(4)
    graph = {(f"no_op-{run}", n): Task((f"no_op-{run}", n), no_op, n) for n in range(NUM_TASKS)}
    said = {SAGE: {"job": run, "pipeline": "cost", "stage": "no_op"}} if is_ours else {}
    before = sum(scheduler.cpu_times()[:2])
    with dask.annotate(**said):
        futures = client.get(graph, list(graph), sync=False)
    client.gather(futures)
    del futures
    # Releasing the results is part of the price.
    time.sleep(1.0)
    return float(sum(scheduler.cpu_times()[:2]) - before)


@contextmanager
def _cluster() -> Iterator[tuple[Client, psutil.Process]]:
    """Lend a client of a cluster; the scheduler is a process of its own, the workers are here."""
    logging.getLogger("distributed").setLevel(logging.ERROR)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        file = folder / "scheduler.json"
        words = ("--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", file)
        scheduler = subprocess.Popen(
            [sys.executable, "-m", "dask", "scheduler", *words], stderr=subprocess.DEVNULL
        )
        stack.callback(scheduler.wait, timeout=30)
        stack.callback(scheduler.terminate)
        until = time.monotonic() + _START_TIMEOUT_S
        while not file.exists() and time.monotonic() < until:
            time.sleep(0.1)
        address = json.loads(file.read_text())["address"]
        client = stack.enter_context(Client(address, set_as_default=False))
        workers = client.sync(_start_workers, address, folder)
        stack.callback(client.sync, _close_workers, workers)
        yield client, psutil.Process(scheduler.pid)


async def _start_workers(address: str, folder: Path) -> list[Worker]:
    workers = [
        Worker(address, nthreads=THREADS, memory_limit=0, local_directory=str(folder))
        for _ in range(NUM_WORKERS)
    ]
    return list(await asyncio.gather(*workers))


async def _close_workers(workers: list[Worker]) -> None:
    await asyncio.gather(*(worker.close() for worker in workers))
