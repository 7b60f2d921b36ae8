"""Where the pieces of one batch's life lie in its span of time.

Durations were measured, each by the clock of whoever did the work; positions are
derived.  Clocks of two hosts are never compared: what scheduler and workers say of a
batch is laid end to end in the order of life, from its being handed over on.  Parts of
a batch that ran at once, as suspects may, so reach beyond the time it was away.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from sage_dask import spent
from sage_dask.breakdown import DASK, SETUP, TRANSFER, Breakdown
from sage_dask.record import StageTiming, TaskTiming

Attribute: TypeAlias = str | int | float | Sequence[str]

# What a task waits for, in the order of its life.
_BEFORE_STAGES = (*spent.SCHEDULER_WAITS, spent.LOST, spent.INPUTS, spent.QUEUE, spent.PACKING)


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of a batch's life."""

    path: tuple[str, ...]
    """Tells it from all others of the batch; without its last part it is that of what holds it."""
    name: str
    start_s: float
    """From the batch's admission."""
    end_s: float
    attributes: Mapping[str, Attribute] = field(default_factory=dict)


def pieces(
    driver: Mapping[str, float],
    tasks: Sequence[TaskTiming],
    latency_s: float,
    breakdown: Breakdown,
) -> Iterator[Piece]:
    """Yield the pieces of a batch.

    Args:
        driver: What its latency was spent on, by the driver's names in ``spent``.
        tasks: In the order in which it passed them.
        latency_s: From its admission to its write.
        breakdown: Of this batch alone.
    """
    now_s = driver.get(spent.ADMISSION, 0.0)
    yield from _own(spent.ADMISSION, 0.0, now_s)
    for number, task in enumerate(tasks):
        start_s = now_s
        for piece in _of_task(task, f"task {number}", start_s, breakdown):
            yield piece
            now_s = max(now_s, piece.end_s)
    for name, seconds in (
        *((name, breakdown.beside_stages(name)) for name in (TRANSFER, DASK)),
        (spent.LOST, driver.get(spent.LOST, 0.0)),
    ):
        yield from _own(name, now_s, now_s + seconds)
        now_s += seconds
    # By the driver's own clock again, and so from the end.
    committing_s = latency_s - breakdown.beside_stages(spent.COMMIT)
    yield from _own(spent.RETURN, committing_s - driver.get(spent.RETURN, 0.0), committing_s)
    yield from _own(spent.COMMIT, committing_s, latency_s)


def _own(name: str, start_s: float, end_s: float) -> Iterator[Piece]:
    """Yield a piece that lies in the batch itself, if it took any time."""
    if end_s > start_s:
        yield Piece((name,), name, start_s, end_s)


def _of_task(task: TaskTiming, place: str, start_s: float, breakdown: Breakdown) -> Iterator[Piece]:
    """Yield a task and what lies in it; the task comes first."""
    waits = {name: task.waits.get(name, 0.0) for name in _BEFORE_STAGES}
    waits[SETUP] = task.setup_seconds
    waited_s = sum(waits.values())
    attributes: dict[str, Attribute] = {"host.name": task.node, "sage_dask.task": task.task}
    if task.reason:
        attributes["sage_dask.placement.reason"] = task.reason
    end_s = start_s + waited_s + task.seconds
    yield Piece((place,), f"task {task.task}", start_s, end_s, attributes)
    now_s = start_s
    for name, seconds in waits.items():
        if seconds > 0:
            yield Piece((place, name), name, now_s, now_s + seconds)
            now_s += seconds
    for number, timing in enumerate(task.stages):
        path = (place, f"stage {number}")
        attributes = {"host.name": task.node, **_of_stage(timing, breakdown)}
        yield Piece(path, f"stage {timing.stage}", now_s, now_s + timing.seconds, attributes)
        now_s += timing.seconds


def _of_stage(timing: StageTiming, breakdown: Breakdown) -> Mapping[str, Attribute]:
    """Return the attributes of a stage, by OpenTelemetry's own names where it has some."""
    attributes: dict[str, Attribute] = {
        "sage_dask.stage": timing.stage,
        "sage_dask.records.in": timing.records_in,
        "sage_dask.records.out": timing.records_out,
    }
    if usage := timing.usage:
        attributes |= {
            "gen_ai.usage.input_tokens": usage.prompt_tokens,
            "gen_ai.usage.cache_read.input_tokens": usage.cached_tokens,
            "gen_ai.usage.output_tokens": usage.completion_tokens,
            "sage_dask.requests": usage.requests,
            "sage_dask.requests.retried": usage.retries,
            "sage_dask.requests.from_cache": usage.cache_hits,
            "sage_dask.cost": usage.cost,
        }
    if calls := timing.calls:
        attributes["sage_dask.calls"] = calls.calls
        for part in breakdown.parts_of(timing.stage):
            name = part.name.replace(" ", "_").replace("-", "_")
            attributes[f"sage_dask.calls.mean_s.{name}"] = part.seconds
    return attributes
