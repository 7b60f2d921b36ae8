"""An operator that stands in for one that works in subprocesses.

Each thread that has a batch for it finds a subprocess that is idle, or starts one;
each is set up once and serves batch after batch until it is killed, dies or is
torn down.  Records that kill theirs fail alone: whoever calls tries each record of
such a batch by itself.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from typing import Any

import cloudpickle

from sage_dask.deadline import DeadlineError, GivenUpError
from sage_dask.errors import PlanError, SetupError, StopRun
from sage_dask.fault import fault_of
from sage_dask.isolation.child import Child
from sage_dask.isolation.serving import Answer
from sage_dask.record import Record
from sage_dask.stage import Operator, Stage

_log = logging.getLogger(__name__)

# What all subprocesses of a stage together may take for their teardown.
_TEARDOWN_S = 10.0


class ProcessDiedError(GivenUpError):
    """The subprocess of a stage died while it worked on a record."""


class Isolated(Operator):
    """The operator of a stage with ``isolate=True``, as its worker process sees it."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._program = b""
        self._lock = threading.Lock()
        self._idle: list[Child] = []

    def setup(self) -> None:
        """Start a first subprocess and set the operator up there."""
        self._program = self._pickled()
        self._idle.append(self._started())

    def process_batch(self, records: Sequence[Record]) -> Sequence[Any]:
        """Have the records worked on in a subprocess.

        Raises:
            DeadlineError: It took longer than the stage's ``deadline_s`` and was killed.
            ProcessDiedError: It died of them.
            StopRun: No subprocess can be set up any more.
        """
        message = cloudpickle.dumps(list(records))
        child = self._take()
        packed = self._asked(child, message)
        with self._lock:
            self._idle.append(child)
        answer: Answer = cloudpickle.loads(packed)
        if answer.error is not None:
            raise answer.error
        return answer.outcomes

    def teardown(self) -> None:
        """Tear the operator down in each subprocess, and end those that take too long."""
        ends = time.monotonic() + _TEARDOWN_S
        errors = [self._left(self._idle.pop(), ends) for _ in range(len(self._idle))]
        for error in errors:
            if error is not None:
                raise error

    def _take(self) -> Child:
        """Return a subprocess that is alive and idle, a new one if there is none."""
        while True:
            with self._lock:
                child = self._idle.pop() if self._idle else None
            if child is None:
                return self._started_again()
            if child.is_alive:
                return child
            child.end()

    def _started_again(self) -> Child:
        try:
            return self._started()
        except Exception as error:
            raise StopRun(
                f"stage {self._stage.name!r}: a further subprocess could not be set up: "
                f"{fault_of(error).message}; as the first one could, look at what two of them "
                "share, such as memory, or at what the first left behind"
            ) from error

    def _started(self) -> Child:
        child = Child()
        try:
            answer: Answer = cloudpickle.loads(child.ask(self._program))
        except EOFError:
            raise SetupError(
                f"the subprocess of {self._kind} {child.end()} during setup(); what it said is "
                "in the log of its worker"
            ) from None
        except BaseException:
            child.end()
            raise
        if answer.error is not None:
            child.end()
            raise answer.error
        return child

    def _asked(self, child: Child, message: bytes) -> bytes:
        """Return a subprocess's answer; if none comes, it is ended."""
        name, deadline_s = self._stage.name, self._stage.deadline_s
        try:
            return child.ask(message, deadline_s)
        except TimeoutError:
            child.end()
            raise DeadlineError(
                f"stage {name!r}: not finished within deadline_s={deadline_s}, so its subprocess "
                "was killed; raise it, or mend what takes so long with this record"
            ) from None
        except EOFError:
            raise ProcessDiedError(
                f"stage {name!r}: its subprocess {child.end()} while {self._kind} worked on this "
                "record; mend that, or drop such records before the stage (what the subprocess "
                "said is in the log of its worker)"
            ) from None
        except BaseException:
            child.end()
            raise

    def _left(self, child: Child, ends: float) -> BaseException | None:
        """Have a subprocess tear down and end; return what its teardown raised."""
        try:
            packed = child.ask(b"", _remaining_s(ends))
            child.leave(_remaining_s(ends))
            answer: Answer = cloudpickle.loads(packed)
            return answer.error
        except TimeoutError:
            _log.warning(
                "stage %r: teardown() of %s took longer than %g s, so its subprocess was killed",
                self._stage.name,
                self._kind,
                _TEARDOWN_S,
            )
            return None
        except EOFError:
            return None  # It died while it was idle, and everything it held with it.
        finally:
            child.end()

    @property
    def _kind(self) -> str:
        return type(self._stage.operator).__name__

    def _pickled(self) -> bytes:
        try:
            pickled: bytes = cloudpickle.dumps(self._stage.operator)
        except Exception as error:
            raise PlanError(
                f"{self._kind} can not be sent to its subprocess ({type(error).__name__}: "
                f"{error}); make connections, locks and open files in setup(), not in the "
                "constructor"
            ) from error
        return pickled

    def __repr__(self) -> str:
        return f"<Isolated {self._stage.name!r}: {len(self._idle)} subprocesses idle>"


def _remaining_s(ends: float) -> float:
    return max(0.0, ends - time.monotonic())
