"""From a declaration to a plan: check everything that can be known, then group stages.

Pure: the planner looks at what it is shown and touches nothing.  Every rule
that shapes the plan leaves a sentence in its notes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby, pairwise

from sage_dask.errors import PlanError, did_you_mean, listed
from sage_dask.plan import READ, Batching, Plan, StagePlan
from sage_dask.stage import FieldSet, Sink, Source, Stage


def make_plan(
    pipeline: str,
    source: Source,
    stages: Sequence[Stage],
    sink: Sink,
    *,
    source_fields: FieldSet,
    batching: Batching | None = None,
    worker_resources: Iterable[Mapping[str, float]] | None = None,
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

    Raises:
        PlanError: The chain can not run; the message names the stage and the mend.
    """
    _check_names(pipeline, stages)
    if worker_resources is not None:
        _check_resources(pipeline, stages, list(worker_resources))
    fields = _check_fields(pipeline, stages, sink, source_fields)
    tasks, notes = _group(stages)
    return Plan(
        pipeline,
        source,
        tasks,
        sink,
        batching=batching or Batching(),
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


def _check_resources(
    pipeline: str, stages: Sequence[Stage], workers: Sequence[Mapping[str, float]]
) -> None:
    """Refuse what no worker supplies: Dask would hold such a task for ever."""
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


def _supplies(worker: Mapping[str, float], wanted: Mapping[str, float]) -> bool:
    return all(worker.get(name, 0) >= amount for name, amount in wanted.items())


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
        f"{task.name!r} is one task: same resources and priority, so records need not travel"
        for task in tasks
        if len(task.stages) > 1
    ]
    return tuple(tasks), notes


def _apart(left: Stage, right: Stage) -> str | None:
    """Return why two neighbours need tasks of their own, or None."""
    if not (left.fuse and right.fuse):
        alone = right if not right.fuse else left
        return f"{alone.name!r} is declared with fuse=False"
    if dict(left.resources) != dict(right.resources):
        return "they hold different resources"
    if left.priority != right.priority:
        return "their priorities differ"
    if left.operator.is_async != right.operator.is_async:
        waiting = right if right.operator.is_async else left
        return f"{waiting.name!r} waits for answers, and must not hold back the other's CPU work"
    return None
