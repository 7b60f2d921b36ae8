"""The nodes of a scheduler, as Dask knows them."""

from __future__ import annotations

from collections import defaultdict

from distributed.scheduler import Scheduler, WorkerState

from sage_dask.dashboard.snapshot import NodeLoad
from sage_dask.scheduling.on_dask.held import node_of
from sage_dask.scheduling.on_dask.watch import cpu_share, memory_share


def node_loads(scheduler: Scheduler) -> list[NodeLoad]:
    """Return what is known of each node, in the order of their names."""
    by_node: defaultdict[str, list[WorkerState]] = defaultdict(list)
    for worker in scheduler.workers.values():
        by_node[node_of(worker)].append(worker)
    return [
        NodeLoad(
            name,
            num_workers=len(workers),
            num_threads=sum(worker.nthreads for worker in workers),
            memory=memory_share(workers),
            cpu=cpu_share(workers),
            num_paused=sum(worker not in scheduler.running for worker in workers),
        )
        for name, workers in sorted(by_node.items())
    ]
