"""Run the stages of one task on one batch, in this process.

Every runner goes through here, so that a record meets the same fate in process
and on a cluster.  A record that raises is found by halving its batch and fails
alone; the account of the batch stays whole.
"""

from __future__ import annotations

import copy
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import TypeAlias, cast

from sage_dask import aio
from sage_dask.errors import RunError, SageError, SetupError, StopRun
from sage_dask.plan import StagePlan
from sage_dask.record import Batch, Failure, Outcome, Record, StageTiming, TaskTiming
from sage_dask.stage import Operator, Stage

_log = logging.getLogger(__name__)

# What became of a record: what its operator says, or whatever came flying out of it.
_Fate: TypeAlias = Outcome | BaseException

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
        self._steps = [(stage, copy.copy(stage.operator)) for stage in task.stages]
        self._clock = clock
        self._lock = threading.Lock()
        self._is_ready = False
        self._is_closed = False
        self._num_running = 0

    def setup(self) -> float:
        """Make the operators ready, and return the seconds it took; 0.0 where they are.

        Raises:
            SetupError: An operator refused; those before it were torn down again.
        """
        with self._lock:
            return self._setup()

    def run(self, batch: Batch, *, node: str) -> Batch:
        """Pass a batch through the stages, and return it with their account and timings."""
        with self._lock:
            if self._is_closed:
                raise RunError(f"task {self.name!r}: its job has ended, so this batch is dropped")
            setup_seconds = self._setup()
            self._num_running += 1
        try:
            return self._run(batch, node, setup_seconds)
        finally:
            with self._lock:
                self._num_running -= 1
                self._teardown_if_idle()

    def teardown(self) -> None:
        """Let the operators go, once no batch is running; refuse any further batch."""
        with self._lock:
            self._is_closed = True
            self._teardown_if_idle()

    def _run(self, batch: Batch, node: str, setup_seconds: float) -> Batch:
        started = self._clock()
        timings = []
        for stage, operator in self._steps:
            records_in, stage_started = len(batch), self._clock()
            batch = apply_stage(stage, operator, batch)
            seconds = self._clock() - stage_started
            timings.append(StageTiming(stage.name, seconds, records_in, len(batch)))
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


def apply_stage(stage: Stage, operator: Operator, batch: Batch) -> Batch:
    """Run one stage on the records of a batch, and settle what became of each."""
    size = stage.batch_size or max(1, len(batch))
    outcomes: list[_Fate] = []
    for start in range(0, len(batch), size):
        outcomes += _call(operator, batch.records[start : start + size])
    if stage.attempts > 1:
        outcomes = _retry(stage, operator, batch.records, outcomes)
    return _settle(stage, batch, outcomes)


def _call(operator: Operator, records: Sequence[Record]) -> Sequence[_Fate]:
    """Call the operator; where it raises, halve the batch until the culprits stand alone.

    A record whose function calls ``sys.exit`` fails like any other; Ctrl-C alone is the user's.
    """
    try:
        result = operator.process_batch(records)
        outcomes = aio.run(result) if isinstance(result, Awaitable) else result
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
        if len(records) == 1:
            return [error]
    middle = len(records) // 2
    return [*_call(operator, records[:middle]), *_call(operator, records[middle:])]


def _retry(
    stage: Stage, operator: Operator, records: Sequence[Record], outcomes: list[_Fate]
) -> list[_Fate]:
    """Give each failed record its remaining tries, alone."""
    for place, outcome in enumerate(outcomes):
        for _ in range(stage.attempts - 1):
            if not isinstance(outcome, BaseException) or isinstance(outcome, StopRun):
                break
            (outcome,) = _call(operator, records[place : place + 1])
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
