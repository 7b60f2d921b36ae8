"""Whether stages can ever get what a task of theirs holds while it runs.

A task that asks for more than there is would not fail: it would wait for ever.
So needs are compared with workers, gates and quotas while planning.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from sage_dask.errors import PlanError, did_you_mean, listed
from sage_dask.schedule import STOCK, THREADS, Scheduling
from sage_dask.stage import Stage

# Suggested where nothing better is known: requests that a model server takes at once.
_USUAL_SLOTS = 32


def check_resources(
    pipeline: str, stages: Sequence[Stage], workers: Sequence[Mapping[str, float]]
) -> None:
    """Refuse what no single worker supplies."""
    for stage in stages:
        if not stage.resources or any(_supplies(worker, stage.resources) for worker in workers):
            continue
        wanted = ", ".join(f"{name}={amount:g}" for name, amount in stage.resources.items())
        best = ", ".join(
            f"{name}={max((worker.get(name, 0) for worker in workers), default=0):g}"
            for name in stage.resources
        )
        known = {name for worker in workers for name in worker}
        hints = [did_you_mean(name, known) for name in stage.resources if name not in known]
        raise PlanError(
            f"pipeline {pipeline!r}: stage {stage.name!r} asks for {wanted} per task, but the "
            f"most that one worker offers is {best}, so it would wait for ever; lower "
            f"Stage(resources=...) or start workers with those resources{''.join(hints)}"
        )


def check_gates(pipeline: str, stages: Sequence[Stage], limits: Mapping[str, float]) -> None:
    """Refuse a gate that the cluster does not have, and more slots than it will ever have."""
    for stage in stages:
        for gate, slots in stage.gates.items():
            if gate not in limits:
                mend = _set_gate(gate, max(slots, _USUAL_SLOTS))
                raise PlanError(
                    f"pipeline {pipeline!r}: stage {stage.name!r} holds gate {gate!r}, but the "
                    f"cluster's gates are {listed(limits)}; set it with {mend}"
                    f"{did_you_mean(gate, limits)}"
                )
            if slots > limits[gate]:
                raise PlanError(
                    f"pipeline {pipeline!r}: stage {stage.name!r} asks for {slots} slots of gate "
                    f"{gate!r} per task, but its limit is {limits[gate]:g}, so it would wait for "
                    f"ever; lower Stage(gates=...), or raise it with {_set_gate(gate, slots)}"
                )


def check_quota(pipeline: str, stages: Sequence[Stage], quota: Mapping[str, float]) -> None:
    """Refuse a quota below what one task holds."""
    for stage in stages:
        for name, amount in _holdings(stage):
            if amount > quota.get(name, amount):
                raise PlanError(
                    f"pipeline {pipeline!r}: stage {stage.name!r} holds {name}={amount:g} per "
                    f"task, but the job's quota is {name}={quota[name]:g}, so it would wait for "
                    "ever; raise the quota or leave it out"
                )


def check_stock(pipeline: str, stages: Sequence[Stage], scheduling: Scheduling) -> None:
    """Refuse what Dask's own placement would silently ignore."""
    instead = f"leave them out, or choose another policy than {STOCK!r}, such as 'spread'"
    for stage in stages:
        if stage.gates:
            raise PlanError(
                f"pipeline {pipeline!r}: stage {stage.name!r} holds gates ({listed(stage.gates)}), "
                f"but policy {STOCK!r} is Dask's own placement, which has none; {instead}"
            )
    unused = Scheduling()
    given = [
        name
        for name in ("gates", "quota", "weight")
        if getattr(scheduling, name) != getattr(unused, name)
    ]
    if given:
        raise PlanError(
            f"pipeline {pipeline!r}: {listed(given)} given with policy {STOCK!r}, but Dask's own "
            f"placement has no gates, quotas or weights; {instead}"
        )


def _supplies(worker: Mapping[str, float], wanted: Mapping[str, float]) -> bool:
    return all(worker.get(name, 0) >= amount for name, amount in wanted.items())


def _holdings(stage: Stage) -> Iterator[tuple[str, float]]:
    """Yield all that a task of a stage holds and a quota may limit."""
    yield THREADS, 1
    yield from stage.resources.items()
    yield from stage.gates.items()


def _set_gate(gate: str, slots: int) -> str:
    return f"cluster.set_gate({gate!r}, {slots}) or run(gates={{{gate!r}: {slots}}})"
