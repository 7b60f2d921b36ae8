"""From a declaration to a plan: check everything that can be known, then group stages.

Pure: the planner looks at what it is shown and touches nothing.  Every rule
that shapes the plan leaves a sentence in its notes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import groupby, pairwise

from sage_dask.errors import PlanError, did_you_mean, listed
from sage_dask.needs import check_gates, check_quota, check_resources, check_stock
from sage_dask.plan import READ, Batching, Plan, StagePlan
from sage_dask.schedule import Scheduling
from sage_dask.stage import FieldSet, Sink, Source, Stage

# Records of a batch that waits for answers: it goes on with its slowest one, and a task of its
# own costs the cluster 7 to 10 ms, a quarter of a millisecond for each of so many.
WAITING_BATCH = 32


def make_plan(
    pipeline: str,
    source: Source,
    stages: Sequence[Stage],
    sink: Sink,
    *,
    source_fields: FieldSet,
    batching: Batching | None = None,
    worker_resources: Iterable[Mapping[str, float]] | None = None,
    gates: Mapping[str, float] | None = None,
    scheduling: Scheduling | None = None,
) -> Plan:
    """Check a chain of stages and turn it into a plan.

    Args:
        pipeline: Name of the pipeline, for messages.
        source: Where records come from.
        stages: In the order in which a record passes them.
        sink: Where records go.
        source_fields: What is known of the source's records.
        batching: How many records travel together.
        worker_resources: What each worker supplies; None where no cluster is known yet.
        gates: Limits of the cluster's gates; None where no cluster is known yet.
        scheduling: What the run asks of the cluster; None asks for nothing.

    Raises:
        PlanError: The chain can not run; the message names the stage and the mend.
    """
    _check_names(pipeline, stages)
    _check_isolation(pipeline, stages)
    scheduling = scheduling or Scheduling()
    if scheduling.is_stock:
        check_stock(pipeline, stages, scheduling)
    if worker_resources is not None:
        check_resources(pipeline, stages, list(worker_resources))
    if gates is not None:
        check_gates(pipeline, stages, gates)
    check_quota(pipeline, stages, scheduling.quota)
    fields = _check_fields(pipeline, stages, sink, source_fields)
    tasks, notes = _group(stages)
    return Plan(
        pipeline,
        source,
        tasks,
        sink,
        batching=_batching(tasks, batching or Batching()),
        fields=fields,
        notes=tuple(notes),
    )


def _check_names(pipeline: str, stages: Sequence[Stage]) -> None:
    if not stages:
        raise PlanError(
            f"pipeline {pipeline!r} has no stage; add one with .stage(name, operator) or .map(f)"
        )
    for name, count in Counter(stage.name for stage in stages).items():
        if count > 1:
            raise PlanError(
                f"pipeline {pipeline!r}: {count} stages are called {name!r}; "
                "give each its own name, since errors and reports show it"
            )
        if name == READ:
            raise PlanError(
                f"pipeline {pipeline!r}: a stage is called {READ!r}, which is what failures of "
                "the source are filed under; choose another name"
            )


def _check_isolation(pipeline: str, stages: Sequence[Stage]) -> None:
    """Refuse to isolate what needs the event loop or the request slots of its worker process."""
    for stage in stages:
        kind = type(stage.operator).__name__
        if stage.isolate and stage.operator.endpoints:
            raise PlanError(
                f"pipeline {pipeline!r}, stage {stage.name!r}: {kind} sends requests to model "
                "servers, whose slots a subprocess can not share; leave isolate=True out, since "
                "deadline_s cancels its calls without it"
            )
        if stage.isolate and stage.operator.is_async:
            raise PlanError(
                f"pipeline {pipeline!r}, stage {stage.name!r}: {kind} waits for others (async), "
                "which isolate=True has no loop for; leave it out, since deadline_s cancels such "
                "calls without it, or write the operator without async"
            )


def _check_fields(
    pipeline: str, stages: Sequence[Stage], sink: Sink, source_fields: FieldSet
) -> dict[str, FieldSet]:
    """Follow the fields along the chain, and refuse a stage that reads one nobody writes."""
    fields = {READ: source_fields}
    before, before_name = source_fields, READ
    for stage in stages:
        _require(pipeline, f"stage {stage.name!r}", stage.operator.reads, before, before_name)
        before, before_name = stage.operator.fields_after(before), stage.name
        fields[stage.name] = before
    _require(pipeline, f"sink {sink.name!r}", sink.reads, before, before_name)
    return fields


def _require(
    pipeline: str, reader: str, reads: Sequence[str], before: FieldSet, before_name: str
) -> None:
    if before.is_open:
        return
    for name in reads:
        if name not in before.names:
            given = "the source" if before_name == READ else repr(before_name)
            raise PlanError(
                f"pipeline {pipeline!r}, {reader}: needs field {name!r}, but {given} gives "
                f"{listed(before.names)}{did_you_mean(name, before.names)}"
            )


def _group(stages: Sequence[Stage]) -> tuple[tuple[StagePlan, ...], list[str]]:
    """Join neighbours that can share a task, and say why the others do not."""
    numbers = [0]
    notes: list[str] = []
    for left, right in pairwise(stages):
        reason = _apart(left, right)
        if reason:
            notes.append(f"{right.name!r} runs apart from {left.name!r}: {reason}")
        numbers.append(numbers[-1] + bool(reason))
    tasks: list[StagePlan] = []
    for _, group in groupby(zip(numbers, stages, strict=True), key=lambda pair: pair[0]):
        inputs = (tasks[-1].name,) if tasks else ()
        tasks.append(StagePlan(tuple(stage for _, stage in group), inputs))
    notes += [
        f"{task.name!r} is one task: same resources, gates and priority, so records need not travel"
        for task in tasks
        if len(task.stages) > 1
    ]
    return tuple(tasks), notes


def _batching(tasks: Sequence[StagePlan], batching: Batching) -> Batching:
    """Keep batches small where they wait for others: there time does not grow with their size."""
    if batching.fixed is not None or not any(task.is_async for task in tasks):
        return batching
    computes = any(not task.is_async for task in tasks)
    first = batching.first if computes else WAITING_BATCH
    return replace(batching, first=first, largest=min(batching.largest, WAITING_BATCH))


def _apart(left: Stage, right: Stage) -> str | None:
    """Return why two neighbours need tasks of their own, or None."""
    if not (left.fuse and right.fuse):
        alone = right if not right.fuse else left
        return f"{alone.name!r} is declared with fuse=False"
    if left.is_remembered:
        return f"what {left.name!r} makes is kept before {right.name!r} begins"
    if dict(left.resources) != dict(right.resources):
        return "they hold different resources"
    if dict(left.gates) != dict(right.gates):
        return "they hold different gates"
    if left.priority != right.priority:
        return "their priorities differ"
    if tuple(left.operator.endpoints) != tuple(right.operator.endpoints):
        return "they send requests to different servers"
    if left.operator.is_async != right.operator.is_async:
        waiting = right if right.operator.is_async else left
        return f"{waiting.name!r} waits for answers, and must not hold back the other's CPU work"
    return None
