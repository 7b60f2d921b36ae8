"""A scheduler that has seen very many tasks holds no more than one that has seen few."""

from __future__ import annotations

import gc
import os

import psutil
import pytest

from sage_dask.scheduling.on_dask.settings import Settings
from tests.scheduling.on_dask.plugged import ours, plugged

CHUNK = 1_000
WORKERS = 4

# A million takes half an hour; memory that grows with tasks shows long before.
NUM_TASKS = int(os.environ.get("SAGE_DASK_LONG_LIFE", "60000"))


def live_through(dask, numbers):
    """Submit tasks, let workers finish them as they are given them, and forget them."""
    names = [f"t-{number}" for number in numbers]
    dask.submit({name: [] for name in names}, ours(job=str(numbers.start // (10 * CHUNK))))
    left = len(names)
    while left:
        for worker in range(WORKERS):
            for key in dask.running_on(str(worker)):
                dask.finish(key)
                left -= 1
    dask.release(*names)
    # Nobody reads what a fake machine is sent.
    for comm in (*dask.scheduler.stream_comms.values(), *dask.scheduler.client_comms.values()):
        comm.buffer.clear()


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_memory_does_not_grow_with_tasks():
    """Stories, decisions, waits and annotations are bounded; Dask's own logs are, too."""
    process = psutil.Process()
    with plugged(Settings("spread")) as (dask, plugin):
        dask.scheduler.validate = False
        for worker in range(WORKERS):
            dask.add_worker(str(worker), threads=8)
        sizes, counts = [], []
        for start in range(0, NUM_TASKS, CHUNK):
            live_through(dask, range(start, start + CHUNK))
            gc.collect()
            sizes.append(process.memory_info().rss)
            counts.append(len(gc.get_objects()))
            if start % (50 * CHUNK) == 0:
                told = f"{sizes[-1] / 2**20:.1f} MiB, {counts[-1]:,} objects"
                print(f"{start + CHUNK:,} tasks: {told}", flush=True)

        assert not plugin._tasks
        assert not dask.scheduler.tasks
    # Dask keeps some ten objects for each graph, with or without us: a hundredth of one per task.
    settled = len(sizes) // 4
    num_since = (len(sizes) - settled) * CHUNK
    assert counts[-1] - counts[settled] < 0.2 * num_since
    # The allocator takes and keeps some megabytes at a time.
    assert sizes[-1] < 1.15 * sizes[settled], [round(size / 2**20, 1) for size in sizes]
