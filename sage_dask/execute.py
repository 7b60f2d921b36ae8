"""Run the stages of one task on one batch, in this process.

Every runner goes through here, so that a record meets the same fate in process
and on a cluster.

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
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, TypeAlias, TypeVar, cast

from sage_dask import aio
from sage_dask.apply import Wait, apply_stage, awaiting, blocking
from sage_dask.endpoint.context import RequestContext, working
from sage_dask.errors import RunError, SageError, SetupError
from sage_dask.fault import fault_of
from sage_dask.isolation.isolated import Isolated
from sage_dask.plan import StagePlan
from sage_dask.record import Batch, StageTiming, TaskTiming
from sage_dask.stage import Operator, Stage

_log = logging.getLogger(__name__)

T = TypeVar("T")

# Makes the context for one stage's requests: whose slots, which job, which task.
ContextMaker: TypeAlias = Callable[[], RequestContext]


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
        self._steps = [(stage, _own_operator(stage)) for stage in task.stages]
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
        work = asyncio.ensure_future(self._run(batch, node, setup_seconds, context, awaiting))
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
        """Make ready for one more batch; return the seconds that took.

        A batch that comes while another one has the operators made ready waits as long.
        """
        was_ready, came_s = self._is_ready, self._clock()
        with self._lock:
            if self._is_closed:
                raise self._ended()
            self._setup()
            self._num_running += 1
            return 0.0 if was_ready else self._clock() - came_s

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
        self, batch: Batch, node: str, setup_seconds: float, context: ContextMaker, wait: Wait[Any]
    ) -> Batch:
        started = self._clock()
        timings = []
        for stage, operator in self._steps:
            records_in, stage_started = len(batch), self._clock()
            with working(context()) as requests:
                batch = await apply_stage(stage, operator, batch, wait)
            seconds = self._clock() - stage_started
            spent = (requests.usage or None, requests.calls or None)
            timings.append(StageTiming(stage.name, seconds, records_in, len(batch), *spent))
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


def _own_operator(stage: Stage) -> Operator:
    """Return the operator that this process makes ready."""
    return Isolated(stage) if stage.isolate else copy.copy(stage.operator)


def _let_go(steps: Iterable[tuple[Stage, Operator]]) -> None:
    """Tear down operators; one that can not be is told of, since its work is done."""
    for stage, operator in steps:
        try:
            operator.teardown()
        except Exception:
            _log.warning(
                "stage %r: teardown() raised; what it held may leak", stage.name, exc_info=True
            )


def _setup_error(stage: Stage, error: Exception) -> SageError:
    if isinstance(error, SageError):
        return SetupError(f"stage {stage.name!r}: {error}")
    operator, fault = type(stage.operator).__name__, fault_of(error)
    return SetupError(
        f"stage {stage.name!r}: {operator}.setup() raised {fault.error}: {fault.message}"
    )


def driven(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that never pauses, and return its result."""
    try:
        work.send(None)
    except StopIteration as stop:
        return cast(T, stop.value)
    raise AssertionError("a coroutine that was to run in its caller's thread has paused")
