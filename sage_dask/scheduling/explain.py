"""Why a task waits, in sentences for people."""

from __future__ import annotations

from sage_dask.errors import counted
from sage_dask.scheduling.backlog import Backlog
from sage_dask.scheduling.gate import Gates
from sage_dask.scheduling.jobs import Job
from sage_dask.scheduling.nodes import Nodes, Worker
from sage_dask.scheduling.queue import Entry, Line
from sage_dask.scheduling.view import Demand, TaskView


def waiting(
    entry: Entry, nodes: Nodes, gates: Gates, backlog: Backlog, kept_for: Entry | None = None
) -> str:
    """Say what a waiting task waits for, and how many are before it.

    Args:
        entry: The task.
        nodes: What there is.
        gates: What there is of cluster-wide slots.
        backlog: Requests that started tasks have yet to send.
        kept_for: The task for which a place is kept, if there is one.
    """
    line, job = entry.lane.line, entry.lane.job
    demand = line.demand
    ahead = sum(1 for other in entry.lane if other.is_waiting and other.place < entry.place)
    before = f"{ahead} of job {job.name!r} before it, {line.size} in all need the same"
    if not line.pool.suppliers:
        return f"waits: {_supply(demand, nodes)}"
    if kept_for is entry:
        return f"is next: what it needs ({demand}) is kept for it as it comes back"
    for name, slots in demand.gates:
        gate = gates[name]
        if not gate.has_room(slots):
            return f"waits for gate {name!r}: {gate.held:g} of {gate.limit:g} slots held; {before}"
    if demand.endpoints and not backlog.has_room(demand.endpoints):
        return (
            f"waits for {' or '.join(demand.endpoints)}: started tasks have "
            f"{backlog.outstanding(demand.endpoints):.0f} requests without an answer, and are "
            f"to have {backlog.wanted(demand.endpoints):.0f}; {before}"
        )
    if job.is_paused:
        return f"waits: its job is paused until it is resumed; {before}"
    if not job.may_hold(demand):
        return f"waits for its own job, which is at its quota ({_quota(job)}); {before}"
    if not line.pool.ranked:
        return (
            f"waits for {demand}: none of the {len(line.pool.suppliers)} nodes that have it has "
            f"enough free; {before}"
        )
    if line.wait is not None:
        return f"waits by policy: {line.wait.reason}; {before}"
    if kept_for is not None:
        return f"waits while a place is kept for {kept_for.task.key!r}, which is first; {before}"
    return f"is about to be placed; {before}"


def unplaceable(line: Line, nodes: Nodes, gates: Gates, backlog: Backlog) -> str:
    """Say what tasks need that nothing in the cluster can give, and what there is."""
    demand = line.demand
    jobs = sorted(name for name, lane in line.by_job.items() if lane.size)
    who = (
        f"{counted(line.size, 'task')} of {', '.join(sorted(line.stages))} "
        f"(job {', '.join(jobs)}) can not run"
    )
    if not line.pool.suppliers:
        return f"{who}: {_supply(demand, nodes)}"
    for name, slots in demand.gates:
        if not gates[name].could_ever(slots):
            return (
                f"{who}: each needs {slots:g} slots of gate {name!r}, whose limit is "
                f"{gates[name].limit:g}; raise it with set_gate({name!r}, ...)"
            )
    if demand.endpoints and not backlog.wanted(demand.endpoints):
        closed = demand.endpoints[0]
        return (
            f"{who}: each sends requests to {' or '.join(demand.endpoints)}, which is closed; "
            f"open it with set_gate({closed!r}, ...)"
        )
    if line.above_quota:
        (job, *_) = line.above_quota
        return f"{who}: each needs {demand}, above its job's quota ({_quota(job)}); raise the quota"
    return (
        f"{who}: all workers that have {demand} are paused, or closing; look at their memory, or "
        "start others"
    )


def endless(task: TaskView, worker: str, seconds: float) -> str:
    """Say that a cancelled task runs on, and what that costs."""
    return (
        f"task {task.key!r} was cancelled {seconds:.0f} s ago and still runs on {worker}, where it "
        f"holds {task.demand}; a thread can not be stopped, so restart that worker if it never ends"
    )


def _supply(demand: Demand, nodes: Nodes) -> str:
    """Say what the worker has that comes closest to a demand."""
    if not nodes.workers:
        return f"each needs {demand}, and the cluster has no workers; start some"
    wanted, allowed = dict(demand.fit.amounts), demand.fit.workers
    workers = [
        worker for worker in nodes.workers.values() if allowed is None or worker.address in allowed
    ]
    if not workers:
        return f"each needs {demand}, and no such worker is there; start it, or allow others"

    def shortfall(worker: Worker) -> float:
        return sum(
            max(0.0, amount - worker.capacity.get(name, 0.0)) / amount
            for name, amount in wanted.items()
        )

    closest = min(workers, key=lambda worker: (shortfall(worker), worker.address))
    has = ", ".join(f"{name}={closest.capacity.get(name, 0.0):g}" for name in wanted)
    return (
        f"each needs {demand} on one worker, and of {len(workers)} the one that comes closest "
        f"has {has}; lower the stage's resources, or start workers that have them"
    )


def _quota(job: Job) -> str:
    return ", ".join(f"{name}={amount:g}" for name, amount in job.quota.items())
