"""What runs in the subprocess: one operator, made ready once, for one batch after the other.

Messages are the pickled operator, then the records of a batch each, then an empty
one for the end.  Every message has one answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import cloudpickle

from sage_dask.errors import SageError, SetupError
from sage_dask.fault import carried, fault_of
from sage_dask.stage import Operator


class Answer(NamedTuple):
    """What became of one message; can be pickled, exceptions and all."""

    outcomes: Sequence[Any] = ()
    """One per record."""
    error: BaseException | None = None
    """What was raised instead."""


def serve(connection: Connection) -> None:
    """Answer messages until the empty one, or until the other end is closed."""
    try:
        operator, answer = _ready(connection.recv_bytes())
        connection.send_bytes(_packed(answer))
        while operator is not None and (message := connection.recv_bytes()):
            connection.send_bytes(_packed(_worked(operator, message)))
        if operator is not None:
            connection.send_bytes(_packed(_torn_down(operator)))
    except EOFError:
        return


def _ready(program: bytes) -> tuple[Operator | None, Answer]:
    try:
        operator: Operator = cloudpickle.loads(program)
        operator.setup()
        return operator, Answer()
    except SageError as error:
        return None, Answer(error=SetupError(fault_of(error).message))
    except BaseException as error:
        return None, Answer(error=carried(error))


def _worked(operator: Operator, message: bytes) -> Answer:
    try:
        outcomes: Any = operator.process_batch(cloudpickle.loads(message))
        return Answer([_portable(outcome) for outcome in outcomes])
    except BaseException as error:
        return Answer(error=carried(error))


def _torn_down(operator: Operator) -> Answer:
    try:
        operator.teardown()
        return Answer()
    except BaseException as error:
        return Answer(error=carried(error))


def _portable(outcome: Any) -> Any:
    return carried(outcome) if isinstance(outcome, BaseException) else outcome


def _packed(answer: Answer) -> bytes:
    """Pickle an answer; an outcome that can not be pickled fails its record alone."""
    packed: bytes
    try:
        packed = cloudpickle.dumps(answer)
    except Exception:
        packed = cloudpickle.dumps(Answer([_sendable(outcome) for outcome in answer.outcomes]))
    return packed


def _sendable(outcome: Any) -> Any:
    try:
        cloudpickle.dumps(outcome)
        return outcome
    except Exception as error:
        return carried(
            TypeError(
                f"can not be sent from the stage's subprocess: {error}; leave out what can not be "
                "pickled, or make it in a stage without isolate=True"
            )
        )
