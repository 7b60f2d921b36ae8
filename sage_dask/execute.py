"""Run the stages of one task on one batch, in this process.

Every runner goes through here, so that a record meets the same fate in process
and on a cluster.  A record that raises is found by halving its batch and fails
alone; the account of the batch stays whole.

There is one way through the stages, a coroutine.  A task whose stages all wait for
others runs on the process's event loop and holds no thread; any other runs in the
caller's thread, where that coroutine never pauses.
"""

from __future__ import annotations

import asyncio
import copy
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from typing import Any, TypeAlias, TypeVar, cast

from sage_dask import aio
from sage_dask.endpoint.context import RequestContext, working
from sage_dask.errors import RunError, SageError, SetupError, StopRun
from sage_dask.plan import StagePlan
from sage_dask.record import Batch, Failure, Outcome, Record, StageTiming, TaskTiming
from sage_dask.stage import Operator, Stage

_log = logging.getLogger(__name__)

T = TypeVar("T")

# What became of a record: what its operator says, or whatever came flying out of it.
_Fate: TypeAlias = Outcome | BaseException

# How to wait for an operator that waits: on the loop, or by blocking a thread.
_Wait: TypeAlias = Callable[[Awaitable[T]], Awaitable[T]]

# Makes the context for one stage's requests: whose slots, which job, which task.
ContextMaker: TypeAlias = Callable[[], RequestContext]

# Longer messages carry whole prompts or answers into logs and the failed file.
_MESSAGE_LIMIT = 2000


class TaskExecutor:
    """The stages of one task, made ready once per process.

    Works on copies of the declared operators, so that a declaration never holds a model.
    Several threads may run batches at once; operators are let go when the last of them is
    done.
    """

    def __init__(self, task: StagePlan, *, clock: Callable[[], float] = time.perf_counter) -> None:
        self.name = task.name
        self.is_async = task.is_async
        self.endpoints = task.endpoints
        self._steps = [(stage, copy.copy(stage.operator)) for stage in task.stages]
        self._clock = clock
        self._lock = threading.Lock()
        self._is_ready = False
        self._is_closed = False
        self._num_running = 0
        self._waiting: set[asyncio.Task[Any]] = set()
        """Batches that are worked on by the loop; touched there only."""

    def setup(self) -> float:
        """Make the operators ready, and return the seconds it took; 0.0 where they are.

        Raises:
            SetupError: An operator refused; those before it were torn down again.
        """
        with self._lock:
            return self._setup()

    def run(self, batch: Batch, *, node: str, context: ContextMaker = RequestContext) -> Batch:
        """Pass a batch through the stages, and return it with their account and timings.

        Blocks the caller's thread; ``run_waiting`` does not.

        Args:
            batch: Is used up.
            node: Name of the machine, for the timings.
            context: Makes the context for each stage's requests.
        """
        if self.is_async:
            return aio.run(self.run_waiting(batch, node=node, context=context))
        setup_seconds = self._enter()
        try:
            return driven(self._run(batch, node, setup_seconds, context, blocking))
        finally:
            self._leave()

    async def run_waiting(
        self, batch: Batch, *, node: str, context: ContextMaker = RequestContext
    ) -> Batch:
        """Pass a batch through stages that all wait; to be awaited on the process's loop.

        Raises:
            RunError: The job ended meanwhile, so that its requests were called off.
        """
        # Loading what the operators need may take seconds, in which others' answers come in.
        setup_seconds = await asyncio.to_thread(self._enter)
        work = asyncio.ensure_future(self._run(batch, node, setup_seconds, context, _awaiting))
        self._waiting.add(work)
        try:
            if self._is_closed:
                work.cancel()
            return await work
        except asyncio.CancelledError:
            if self._is_closed:
                raise self._ended() from None
            work.cancel()
            raise
        finally:
            self._waiting.discard(work)
            await asyncio.to_thread(self._leave)

    def teardown(self) -> None:
        """Let the operators go, once no batch is running; refuse any further batch.

        Batches that wait for answers are called off: nobody wants those any more.
        """
        with self._lock:
            self._is_closed = True
            if self._num_running and self.is_async:
                aio.background_loop().call_soon_threadsafe(self._call_off)
            self._teardown_if_idle()

    def _enter(self) -> float:
        """Make ready for one more batch; return the seconds that took."""
        with self._lock:
            if self._is_closed:
                raise self._ended()
            setup_seconds = self._setup()
            self._num_running += 1
            return setup_seconds

    def _leave(self) -> None:
        with self._lock:
            self._num_running -= 1
            self._teardown_if_idle()

    def _ended(self) -> RunError:
        return RunError(f"task {self.name!r}: its job has ended, so this batch is dropped")

    def _call_off(self) -> None:
        for work in self._waiting:
            work.cancel()

    async def _run(
        self, batch: Batch, node: str, setup_seconds: float, context: ContextMaker, wait: _Wait[Any]
    ) -> Batch:
        started = self._clock()
        timings = []
        for stage, operator in self._steps:
            records_in, stage_started = len(batch), self._clock()
            with working(context()) as requests:
                batch = await apply_stage(stage, operator, batch, wait)
            seconds = self._clock() - stage_started
            usage = requests.usage or None
            timings.append(StageTiming(stage.name, seconds, records_in, len(batch), usage))
        seconds = self._clock() - started
        batch.tasks.append(TaskTiming(self.name, node, seconds, setup_seconds, tuple(timings)))
        return batch

    def _setup(self) -> float:
        if self._is_ready:
            return 0.0
        started = self._clock()
        for number, (stage, operator) in enumerate(self._steps):
            try:
                operator.setup()
            except Exception as error:
                _let_go(self._steps[:number])
                raise _setup_error(stage, error) from error
        self._is_ready = True
        return self._clock() - started

    def _teardown_if_idle(self) -> None:
        if self._is_closed and self._is_ready and not self._num_running:
            self._is_ready = False
            _let_go(self._steps)


def _let_go(steps: Iterable[tuple[Stage, Operator]]) -> None:
    """Tear down operators; one that can not be is told of, since its work is done."""
    for stage, operator in steps:
        try:
            operator.teardown()
        except Exception:
            _log.warning(
                "stage %r: teardown() raised; what it held may leak", stage.name, exc_info=True
            )


async def _awaiting(awaitable: Awaitable[T]) -> T:
    """Wait on the loop."""
    return await awaitable


async def blocking(awaitable: Awaitable[T]) -> T:
    """Wait with the caller's thread, as if the awaitable were a plain call."""
    return aio.run(awaitable)


def driven(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that never pauses, and return its result."""
    try:
        work.send(None)
    except StopIteration as stop:
        return cast(T, stop.value)
    raise AssertionError("a coroutine that was to run in its caller's thread has paused")


async def apply_stage(stage: Stage, operator: Operator, batch: Batch, wait: _Wait[Any]) -> Batch:
    """Run one stage on the records of a batch, and settle what became of each."""
    size = stage.batch_size or max(1, len(batch))
    outcomes: list[_Fate] = []
    for start in range(0, len(batch), size):
        outcomes += await _call(operator, batch.records[start : start + size], wait)
    if stage.attempts > 1:
        outcomes = await _retry(stage, operator, batch.records, outcomes, wait)
    return _settle(stage, batch, outcomes)


async def _call(operator: Operator, records: Sequence[Record], wait: _Wait[Any]) -> Sequence[_Fate]:
    """Call the operator; where it raises, halve the batch until the culprits stand alone.

    A record whose function calls ``sys.exit`` fails like any other; Ctrl-C alone is the user's.
    """
    try:
        result = operator.process_batch(records)
        outcomes: Sequence[_Fate] = await wait(result) if isinstance(result, Awaitable) else result
        if len(outcomes) != len(records):
            raise StopRun(
                f"{type(operator).__name__}.process_batch returned {len(outcomes)} outcomes for "
                f"{len(records)} records; return one per record, None to drop one and a list "
                "to expand one"
            )
        return outcomes
    except (StopRun, KeyboardInterrupt):
        raise
    except BaseException as error:
        if _is_called_off():
            raise
        if len(records) == 1:
            return [error]
    middle = len(records) // 2
    first = await _call(operator, records[:middle], wait)
    return [*first, *await _call(operator, records[middle:], wait)]


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
    wait: _Wait[Any],
) -> list[_Fate]:
    """Give each failed record its remaining tries, alone."""
    for place, outcome in enumerate(outcomes):
        for _ in range(stage.attempts - 1):
            if not isinstance(outcome, BaseException) or isinstance(outcome, StopRun):
                break
            (outcome,) = await _call(operator, records[place : place + 1], wait)
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
            batch.num_filtered += 1
        elif isinstance(outcome, Sequence) and not isinstance(outcome, str | bytes):
            _expand(stage, batch, record_id, outcome)
        else:
            _keep(stage, batch, record_id, outcome)
    return batch


def _expand(stage: Stage, batch: Batch, record_id: str, children: Sequence[Record]) -> None:
    if not children:
        batch.num_filtered += 1
        return
    batch.num_expanded += len(children) - 1
    root = batch.roots.get(record_id, record_id)
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
    batch.failures.append(
        Failure(
            record_id,
            stage.name,
            type(outcome).__name__,
            _words(outcome),
            attempts=_attempts(outcome, stage),
            root=batch.roots.get(record_id),
        )
    )


def _words(error: BaseException) -> str:
    """Return what an exception says, whatever its own code does when it is asked."""
    try:
        # What leaves a program, such as SystemExit(1), says only "1".
        text = str(error) if isinstance(error, Exception) else ""
        return (text or repr(error))[:_MESSAGE_LIMIT]
    except Exception as second:
        return f"its own message raises {type(second).__name__}; mend {type(error).__name__}"


def _attempts(error: BaseException, stage: Stage) -> int:
    """Return how often a record was tried: by the error's word, or by the stage's."""
    told = vars(error).get("attempts")
    return told if type(told) is int else stage.attempts


def _setup_error(stage: Stage, error: Exception) -> SageError:
    if isinstance(error, SageError):
        return SetupError(f"stage {stage.name!r}: {error}")
    operator = type(stage.operator).__name__
    return SetupError(
        f"stage {stage.name!r}: {operator}.setup() raised {type(error).__name__}: {_words(error)}"
    )
