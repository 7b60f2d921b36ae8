"""What must hold between events, derived anew from who holds what.

Nothing here trusts a counter: each is compared with a sum over leases or tasks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from sage_dask.scheduling.backlog import Backlog
from sage_dask.scheduling.gate import Gates
from sage_dask.scheduling.jobs import Jobs
from sage_dask.scheduling.ledger import Ledger
from sage_dask.scheduling.nodes import Nodes
from sage_dask.scheduling.queue import Queue

_EPSILON = 1e-6


def violations(
    nodes: Nodes,
    gates: Gates,
    backlog: Backlog,
    jobs: Jobs,
    queue: Queue,
    ledger: Ledger,
    *,
    is_deciding: bool,
) -> Iterator[str]:
    """Yield a sentence for each count that is wrong.

    Args:
        nodes: Machines and what is free of them.
        gates: Slots held.
        backlog: Requests to be answered.
        jobs: What each has running and queued.
        queue: What waits.
        ledger: Who holds what; everything is compared with this.
        is_deciding: Whether changes have reached lanes and pools; while nothing waits, and after
            a policy's failure, they have not.
    """
    yield from worker_violations(nodes, ledger)
    yield from _overbooking(nodes)
    yield from gate_violations(gates, ledger)
    yield from _backlog_violations(backlog, ledger)
    yield from _node_violations(nodes, ledger)
    yield from _job_violations(jobs, queue, ledger)
    yield from _queue_violations(queue, ledger)
    if is_deciding:
        yield from _lane_violations(queue)
        yield from _pool_violations(nodes, queue)


def worker_violations(nodes: Nodes, ledger: Ledger) -> Iterator[str]:
    """Compare what workers have free with what leases hold of them."""
    held: dict[str, Counter[str]] = {address: Counter() for address in nodes.workers}
    for lease in ledger:
        if lease.worker not in held:
            yield f"task {lease.task.key!r} holds resources of {lease.worker}, which is gone"
            continue
        held[lease.worker].update(dict(lease.task.demand.fit.amounts))
    for address, amounts in held.items():
        worker = nodes.workers[address]
        for name, capacity in worker.capacity.items():
            if abs(capacity - worker.free[name] - amounts[name]) > _EPSILON:
                yield (
                    f"worker {address}: {name} {capacity - worker.free[name]:g} counted as taken, "
                    f"{amounts[name]:g} held"
                )


def _overbooking(nodes: Nodes) -> Iterator[str]:
    """Yield workers with more than they supply; only Dask gives them that, before we came."""
    for address, worker in nodes.workers.items():
        for name, free in worker.free.items():
            if free < -_EPSILON:
                capacity = worker.capacity.get(name, 0.0)
                yield f"worker {address}: {name} {capacity - free:g} held of {capacity:g}"


def gate_violations(gates: Gates, ledger: Ledger) -> Iterator[str]:
    """Compare the slots that gates count as held with those that leases hold."""
    held: Counter[str] = Counter()
    for lease in ledger:
        held.update(dict(lease.task.demand.gates))
    for gate in gates:
        if abs(gate.held - held[gate.name]) > _EPSILON:
            yield f"gate {gate.name!r}: {gate.held:g} slots counted, {held[gate.name]:g} held"


def _backlog_violations(backlog: Backlog, ledger: Ledger) -> Iterator[str]:
    """Compare the requests that are counted with those that leases have left."""
    left: Counter[tuple[str, str]] = Counter()
    for lease in ledger:
        left[lease.worker, lease.task.job] += lease.outstanding
    counted: Counter[tuple[str, str]] = Counter()
    for want in backlog.wants():
        counted[want.worker, want.job] += want.outstanding
    for asker in left.keys() | counted.keys():
        if left[asker] != counted[asker]:
            yield f"{asker}: {counted[asker]} requests counted, its tasks have {left[asker]}"


def _node_violations(nodes: Nodes, ledger: Ledger) -> Iterator[str]:
    in_flight = Counter(lease.node for lease in ledger)
    for node in nodes:
        stages = Counter(
            lease.task.stage
            for lease in ledger
            if lease.node == node.name and lease.task.demand.threads
        )
        if node.in_flight != in_flight[node.name] or node.stages != stages:
            yield f"node {node.name}: {node.in_flight} tasks counted, {in_flight[node.name]} there"
        if (node.idle_since_s is None) != (in_flight[node.name] > 0):
            yield f"node {node.name}: idle since {node.idle_since_s} with {in_flight[node.name]}"


def _job_violations(jobs: Jobs, queue: Queue, ledger: Ledger) -> Iterator[str]:
    running = Counter(lease.task.job for lease in ledger)
    queued = Counter(entry.task.job for entry in queue.entries())
    for job in jobs:
        if job.num_running != running[job.name] or job.num_queued != queued[job.name]:
            yield (
                f"job {job.name!r}: {job.num_running} running and {job.num_queued} queued counted, "
                f"{running[job.name]} and {queued[job.name]} are"
            )
        if job.is_idle:
            yield f"job {job.name!r} has nothing left and is still counted"
    for name in {*running, *queued}:
        if jobs.get(name) is None:
            yield f"job {name!r} has tasks and is not counted"


def _queue_violations(queue: Queue, ledger: Ledger) -> Iterator[str]:
    sizes = Counter(entry.task.demand for entry in queue.entries())
    for demand, line in queue.lines.items():
        if line.size != sizes[demand]:
            yield f"line {demand}: {line.size} tasks counted, {sizes[demand]} wait"
    for key in ledger.running:
        if key in queue:
            yield f"task {key!r} runs and waits"


def _lane_violations(queue: Queue) -> Iterator[str]:
    for demand, line in queue.lines.items():
        for name, lane in line.by_job.items():
            is_open = queue.may_move(lane)
            if is_open != (name in line.lanes):
                yield f"line {demand}: job {name!r} may move: {is_open}, but is listed otherwise"


def _pool_violations(nodes: Nodes, queue: Queue) -> Iterator[str]:
    for demand, line in queue.lines.items():
        pool = line.pool
        able = {node.name for node in nodes if node.can_take(demand.fit)}
        if able != set(pool.ranked):
            yield f"pool {demand.fit}: nodes {sorted(pool.ranked)} listed, {sorted(able)} can"
        suppliers = {node.name for node in nodes if node.supplies(demand.fit)}
        if suppliers != pool.suppliers:
            yield f"pool {demand.fit}: suppliers {sorted(pool.suppliers)}, not {sorted(suppliers)}"
        busy = sum(node.threads for node in nodes if node.in_flight and node.name in suppliers)
        if abs(busy - pool.busy_threads) > _EPSILON:
            yield f"pool {demand.fit}: {pool.busy_threads:g} busy threads counted, {busy:g} are"
