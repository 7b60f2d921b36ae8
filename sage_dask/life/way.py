"""The way of a record's batch in sentences, from being read to being safe."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from sage_dask import spent
from sage_dask.breakdown import DASK, TRANSFER
from sage_dask.errors import counted
from sage_dask.life.facts import Passage
from sage_dask.metrics import duration
from sage_dask.record import TaskTiming

# What is shorter is not worth a word; ``--json`` has all of it.
_LEAST_S = 0.001

# From here on times are told to a tenth of a second, before it to a hundredth.
_WHOLE_S = 10.0

# Before a task was on its worker, and there.
_WAITED_FOR: Mapping[str, str] = {
    spent.SCHEDULING: "for the scheduler to decide",
    spent.GATE: "for a slot of a gate or of its model server",
    spent.NODE: "for a node with room",
    spent.QUOTA: "for its job's quota, or because the job was paused",
    spent.POLICY: "because the policy had it wait, or kept the place for another task",
    spent.LOST: "on workers that died or gave it back",
}
_ON_WORKER: Mapping[str, str] = {
    spent.INPUTS: "to fetch what it needed from other workers",
    spent.QUEUE: "for a thread",
    spent.PACKING: "to unpack the batch, and to see that it can travel on",
}


def way(passage: Passage, before: Passage | None) -> Iterator[str]:
    """Yield one batch's way, until it is safe."""
    again = " again" if before is not None else ""
    yield (
        f"Read{again} at {at(passage.read_s)}, as one of {counted(passage.num_records, 'record')} "
        f"of batch {passage.batch}."
    )
    if before is not None and before.remembered and _goes_on(passage, before):
        yield (
            f"It went on after stage {before.remembered[-1].stage!r}, the result of which start "
            f"{before.start} had kept."
        )
    if passage.seconds(spent.ADMISSION) >= _LEAST_S:
        yield f"Handed over after {duration(passage.seconds(spent.ADMISSION))}."
    remembered = list(passage.remembered)
    for task in passage.tasks:
        yield from _task(task, passage)
        if remembered and task.stages and task.stages[-1].stage == remembered[0].stage:
            kept = remembered.pop(0)
            yield (
                f"What it had after stage {kept.stage!r} was kept at {at(kept.at_s)}: no crash "
                "repeats that."
            )
    yield from _between(passage)


def _goes_on(passage: Passage, before: Passage) -> bool:
    """Return whether a passage left out what an earlier one had remembered."""
    done = {timing.stage for task in before.tasks for timing in task.stages}
    again = {timing.stage for task in passage.tasks for timing in task.stages}
    return bool(again) and done.isdisjoint(again)


def _task(task: TaskTiming, passage: Passage) -> Iterator[str]:
    """Yield what is known of one task of the batch."""
    waited = _spent_on(task.waits, _WAITED_FOR)
    if task.reason:
        waiting = f" waited {waited}, and" if waited else ""
        yield f"Task {task.task!r}{waiting} was placed on {task.node}: {task.reason}."
    else:
        yield f"Task {task.task!r} ran on {task.node}."
    if on_worker := _spent_on(task.waits, _ON_WORKER):
        yield f"On its worker it took {on_worker}."
    if task.setup_seconds >= _LEAST_S:
        yield f"Making operators ready there took {duration(task.setup_seconds)}."
    for timing in task.stages:
        yield (
            f"Stage {timing.stage!r} took {duration(timing.seconds)} for "
            f"{counted(timing.records_in, 'record')} of the batch."
        )
        parts = passage.breakdown.parts_of(timing.stage)
        if timing.calls and parts:
            shares = in_a_row([f"{duration(part.seconds)} {part.meaning}" for part in parts])
            yield f"  Its calls to the model server, in the batch's mean per record: {shares}."


def _between(passage: Passage) -> Iterator[str]:
    """Yield what belongs to no task."""
    between_s = passage.seconds(TRANSFER)
    if between_s >= _LEAST_S:
        yield f"On the way between driver, scheduler and workers it was {duration(between_s)}."
    if passage.seconds(DASK) >= _LEAST_S:
        yield f"In Dask's own queue, and on the way, it was {duration(passage.seconds(DASK))}."
    if passage.seconds(spent.RETURN) >= _LEAST_S:
        yield f"Back at the driver, it waited {duration(passage.seconds(spent.RETURN))} for a look."
    if passage.seconds(spent.COMMIT) >= _LEAST_S:
        yield (
            "Waiting for its turn in the output, and being written or committed, took "
            f"{duration(passage.seconds(spent.COMMIT))}."
        )


def _spent_on(waits: Mapping[str, float], names: Mapping[str, str]) -> str:
    found = [
        f"{duration(waits[name])} {meaning}"
        for name, meaning in names.items()
        if waits.get(name, 0.0) >= _LEAST_S
    ]
    return in_a_row(found)


def at(seconds: float) -> str:
    """Return a time since the first read of a start."""
    return f"+{seconds:,.{1 if seconds >= _WHOLE_S else 2}f} s"


def in_a_row(parts: Sequence[str]) -> str:
    """Return parts of a sentence with commas, and "and" before the last."""
    return " and ".join([", ".join(parts[:-1]), parts[-1]]) if len(parts) > 1 else "".join(parts)
