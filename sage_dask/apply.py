"""Apply one stage to a batch: call its operator, and settle what became of each record.

A record that raises is found by halving its batch and fails alone.  A call that was
given up, at its deadline or because its process died, is not halved, since each
further one would cost as much: its records are tried one by one.  Either way the
account of the batch stays whole.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeAlias, TypeVar, cast

from sage_dask import aio
from sage_dask.deadline import GivenUpError, check_in_time, in_time, reported
from sage_dask.errors import StopRun
from sage_dask.fault import fault_of
from sage_dask.record import Batch, Failure, Outcome, Record
from sage_dask.stage import Operator, Stage

T = TypeVar("T")

# What became of a record: what its operator says, or whatever came flying out of it.
_Fate: TypeAlias = Outcome | BaseException

# How to wait for an operator that waits: on the loop, or by blocking a thread.
Wait: TypeAlias = Callable[[Awaitable[T]], Awaitable[T]]


async def awaiting(awaitable: Awaitable[T]) -> T:
    """Wait on the loop."""
    return await awaitable


async def blocking(awaitable: Awaitable[T]) -> T:
    """Wait with the caller's thread, as if the awaitable were a plain call."""
    return aio.run(awaitable)


async def apply_stage(stage: Stage, operator: Operator, batch: Batch, wait: Wait[Any]) -> Batch:
    """Run one stage on the records of a batch, and settle what became of each."""
    size = stage.batch_size or max(1, len(batch))
    outcomes: list[_Fate] = []
    for start in range(0, len(batch), size):
        outcomes += await _call(stage, operator, batch.records[start : start + size], wait)
    if stage.attempts > 1:
        outcomes = await _retry(stage, operator, batch.records, outcomes, wait)
    return _settle(stage, batch, outcomes)


async def _call(
    stage: Stage, operator: Operator, records: Sequence[Record], wait: Wait[Any]
) -> Sequence[_Fate]:
    """Call the operator; where that fails, call it again until the culprits stand alone.

    A record whose function calls ``sys.exit`` fails like any other; Ctrl-C alone is the user's.
    """
    try:
        return await _outcomes(stage, operator, records, wait)
    except (StopRun, KeyboardInterrupt):
        raise
    except BaseException as error:
        if _is_called_off():
            raise
        if len(records) == 1:
            return [error]
        is_given_up = isinstance(error, GivenUpError)
    if is_given_up:
        return await _each_alone(stage, operator, records, wait)
    middle = len(records) // 2
    first = await _call(stage, operator, records[:middle], wait)
    return [*first, *await _call(stage, operator, records[middle:], wait)]


async def _outcomes(
    stage: Stage, operator: Operator, records: Sequence[Record], wait: Wait[Any]
) -> Sequence[_Fate]:
    """Call the operator once, within the stage's deadline.

    Raises:
        GivenUpError: It came to no end in time.
        StopRun: It does not say what became of each record.
    """
    outcomes: Sequence[_Fate]
    if stage.isolate:
        # Keeps its deadline by itself, and never waits: no plan isolates what does.
        outcomes = cast(Sequence[_Fate], operator.process_batch(records))
    else:
        outcomes = await _in_this_process(stage, operator, records, wait)
    if len(outcomes) != len(records):
        raise StopRun(
            f"{type(stage.operator).__name__}.process_batch returned {len(outcomes)} outcomes for "
            f"{len(records)} records; return one per record, None to drop one and a list "
            "to expand one"
        )
    return outcomes


async def _in_this_process(
    stage: Stage, operator: Operator, records: Sequence[Record], wait: Wait[Any]
) -> Sequence[_Fate]:
    started = time.monotonic()
    with reported(stage, len(records)):
        result = operator.process_batch(records)
        if isinstance(result, Awaitable):
            result = await wait(in_time(stage, result))
    check_in_time(stage, time.monotonic() - started)
    return result


async def _each_alone(
    stage: Stage, operator: Operator, records: Sequence[Record], wait: Wait[Any]
) -> list[_Fate]:
    """Call the operator for one record at a time, or for all at once where it waits."""
    if stage.operator.is_async:
        fates: list[_Fate] = await wait(_all_at_once(stage, operator, records))
        return fates
    return [fate for record in records for fate in await _call(stage, operator, [record], wait)]


async def _all_at_once(stage: Stage, operator: Operator, records: Sequence[Record]) -> list[_Fate]:
    calls = (_call(stage, operator, [record], awaiting) for record in records)
    answers = await asyncio.gather(*calls, return_exceptions=True)
    for answer in answers:
        if isinstance(answer, BaseException):
            raise answer
    return [fate for fates in answers for fate in cast(Sequence[_Fate], fates)]


def _is_called_off() -> bool:
    """Return whether whoever waits for the batch on the loop does not want it any more."""
    if asyncio._get_running_loop() is None:
        return False
    work = asyncio.current_task()
    return work is not None and work.cancelling() > 0


async def _retry(
    stage: Stage,
    operator: Operator,
    records: Sequence[Record],
    outcomes: list[_Fate],
    wait: Wait[Any],
) -> list[_Fate]:
    """Give each failed record its remaining tries, alone."""
    for place, outcome in enumerate(outcomes):
        for _ in range(stage.attempts - 1):
            if not isinstance(outcome, BaseException) or isinstance(outcome, StopRun):
                break
            (outcome,) = await _call(stage, operator, records[place : place + 1], wait)
        outcomes[place] = outcome
    return outcomes


def _settle(stage: Stage, batch: Batch, outcomes: list[_Fate]) -> Batch:
    """Return the batch after a stage: records go on, the others enter the account."""
    if set(map(type, outcomes)) <= {dict}:
        batch.records = cast(list[Record], outcomes)
        return batch
    ids, batch.ids, batch.records = batch.ids, [], []
    for record_id, outcome in zip(ids, outcomes, strict=True):
        if isinstance(outcome, StopRun):
            raise outcome
        if outcome is None:
            batch.filtered.append(batch.roots.get(record_id, record_id))
        elif isinstance(outcome, Sequence) and not isinstance(outcome, str | bytes):
            _expand(stage, batch, record_id, outcome)
        else:
            _keep(stage, batch, record_id, outcome)
    return batch


def _expand(stage: Stage, batch: Batch, record_id: str, children: Sequence[Record]) -> None:
    root = batch.roots.get(record_id, record_id)
    if not children:
        batch.filtered.append(root)
        return
    batch.num_expanded += len(children) - 1
    for number, child in enumerate(children):
        child_id = f"{record_id}/{number}"
        batch.roots[child_id] = root
        _keep(stage, batch, child_id, child)


def _keep(stage: Stage, batch: Batch, record_id: str, outcome: object) -> None:
    """Let a record go on, or fail it: by its exception, or for being no record."""
    if isinstance(outcome, Mapping):
        batch.ids.append(record_id)
        batch.records.append(dict(outcome))
        return
    if not isinstance(outcome, BaseException):
        outcome = TypeError(
            f"{type(stage.operator).__name__} gave {type(outcome).__name__} for a record; "
            "give a dict, a list of dicts, None or an exception"
        )
    fault = fault_of(outcome)
    batch.failures.append(
        Failure(
            record_id,
            stage.name,
            fault.error,
            fault.message,
            attempts=stage.attempts if fault.attempts is None else fault.attempts,
            root=batch.roots.get(record_id),
        )
    )
