"""Whether there are workers, whether they are well, and whether they supply what stages ask."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from sage_dask.doctor.finding import Finding, fail, named, note, ok, refused, warn
from sage_dask.doctor.versions import Versions
from sage_dask.errors import PlanError, counted
from sage_dask.needs import check_gates, check_resources
from sage_dask.stage import Stage

# A worker is heard of twice a second.
_SILENT_S = 10.0
# Dask pauses a worker at this share of its limit.
_PAUSE_AT = 0.8


@dataclass(frozen=True, slots=True)
class WorkerFacts:
    """One worker process, as its scheduler knows it."""

    name: str
    node: str
    threads: int
    memory_limit: int
    """Bytes; 0 for none."""
    memory_used: int = 0
    is_paused: bool = False
    silent_s: float | None = None
    """How long ago it was last heard of, by the scheduler's clock; None where that is not known."""
    resources: Mapping[str, float] = field(default_factory=dict)
    versions: Versions = field(default_factory=dict)
    """Of packages, as it told when it registered; none where that is not known."""

    @property
    def is_silent(self) -> bool:
        """Whether it should have been heard of since."""
        return self.silent_s is not None and self.silent_s > _SILENT_S


def worker_findings(
    workers: Sequence[WorkerFacts], scheduler: str, memory_by_node: Mapping[str, int]
) -> Iterator[Finding]:
    """Yield how many workers there are, and what is wrong with which.

    Args:
        workers: All of a cluster.
        scheduler: Its address.
        memory_by_node: What the machines have in bytes, as far as they said.
    """
    if not workers:
        yield fail("workers", "none", f"start some: dask worker {scheduler}")
        return
    yield ok("workers", _counts(workers))
    yield from _unwell(workers)
    yield from _memory(workers, memory_by_node)


def _counts(workers: Sequence[WorkerFacts]) -> str:
    nodes = {worker.node for worker in workers}
    supplied: dict[str, float] = {}
    for worker in workers:
        for resource, amount in worker.resources.items():
            supplied[resource] = supplied.get(resource, 0) + amount
    resources = ", ".join(f"{name}={amount:g}" for name, amount in sorted(supplied.items()))
    threads = counted(sum(worker.threads for worker in workers), "thread")
    limit = sum(worker.memory_limit for worker in workers)
    used = sum(worker.memory_used for worker in workers)
    memory = f"{_gib(used)} used" + (f" of {_gib(limit)}" if limit else "")
    return (
        f"{len(workers)} on {counted(len(nodes), 'node')} ({named(nodes)}), {threads}, {memory}, "
        f"resources {resources or 'none'}"
    )


def _unwell(workers: Sequence[WorkerFacts]) -> Iterator[Finding]:
    silent = [worker for worker in workers if worker.is_silent]
    if silent:
        longest_s = max(worker.silent_s or 0 for worker in silent)
        yield fail(
            "workers",
            f"{named(worker.name for worker in silent)}: not heard of for up to {longest_s:.0f} s",
            "the process hangs or its machine is gone, and its tasks wait: look at its log, and "
            "end it, so that they go elsewhere",
        )
    paused = [worker for worker in workers if worker.is_paused]
    if paused:
        told = fail if len(paused) == len(workers) else warn
        yield told(
            "workers",
            f"{named(worker.name for worker in paused)}: paused for want of memory",
            "they take no tasks until memory is free: give them more (--memory-limit), fewer "
            "threads, or stages a smaller batch_size",
        )


def _memory(workers: Sequence[WorkerFacts], memory_by_node: Mapping[str, int]) -> Iterator[Finding]:
    full = [
        worker
        for worker in workers
        if not worker.is_paused
        and worker.memory_limit
        and worker.memory_used > _PAUSE_AT * worker.memory_limit
    ]
    if full:
        yield warn(
            "workers",
            f"{named(worker.name for worker in full)}: more than {_PAUSE_AT:.0%} of the memory "
            "limit in use",
            "they will pause: give them more memory (--memory-limit) or fewer threads",
        )
    boundless = [worker.name for worker in workers if not worker.memory_limit]
    if boundless:
        yield note(
            "workers",
            f"{named(boundless)}: no memory limit",
            "one that grows takes its machine with it, in place of being restarted: give "
            "--memory-limit, or LocalNodes(memory_limit=...)",
        )
    yield from _promised(workers, memory_by_node)


def _promised(
    workers: Sequence[WorkerFacts], memory_by_node: Mapping[str, int]
) -> Iterator[Finding]:
    """Yield the nodes whose workers may use more than there is; those that are alike together."""
    alike: dict[tuple[int, int, int], list[str]] = {}
    for node, there in memory_by_node.items():
        limits = [worker.memory_limit for worker in workers if worker.node == node]
        if sum(limits) > there:
            alike.setdefault((sum(limits), there, len(limits)), []).append(node)
    for (promised, there, num_workers), nodes in alike.items():
        yield warn(
            "workers",
            f"{named(nodes)}: limits of {_gib(promised)} in all, and the machine may use "
            f"{_gib(there)}",
            "the kernel ends them before Dask does, and leaves no note: lower --memory-limit to "
            f"{_gib(there // num_workers)} each",
        )


def stage_findings(
    pipeline: str,
    stages: Sequence[Stage],
    workers: Sequence[Mapping[str, float]],
    gates: Mapping[str, float],
) -> Iterator[Finding]:
    """Yield whether some worker can run each stage, and whether its gates have the slots.

    Args:
        pipeline: Its name.
        stages: All of it.
        workers: What each worker supplies.
        gates: Limits that a run would find.
    """
    for stage in stages:
        checks = (
            partial(check_resources, pipeline, [stage], workers),
            partial(check_gates, pipeline, [stage], gates),
        )
        faults = [message for check in checks if (message := _refusal(check))]
        for message in faults:
            known = f"pipeline {pipeline!r}: stage {stage.name!r} "
            yield refused(f"stage {stage.name}", message.removeprefix(known))
        if not faults and (stage.resources or stage.gates):
            needs = {**stage.resources, **stage.gates}
            asked = ", ".join(f"{name}={amount:g}" for name, amount in needs.items())
            yield ok(f"stage {stage.name}", f"{asked} per task can be had")


def _refusal(check: Callable[[], None]) -> str:
    try:
        check()
    except PlanError as error:
        return str(error)
    return ""


def _gib(num_bytes: int) -> str:
    return f"{num_bytes / 2**30:.1f} GiB"
