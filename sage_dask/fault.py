"""What is kept of an exception that failed a record: words that any process can read.

An exception itself may not travel: its class may be unknown where it arrives, and
some can be pickled but not read back.  Nobody needs more than the failed file shows.
"""

from __future__ import annotations

from typing import NamedTuple

from sage_dask.errors import StopRun

# Longer messages carry whole prompts or answers into logs and the failed file.
_MESSAGE_LIMIT = 2000


class Fault(NamedTuple):
    """What went wrong with one record."""

    error: str
    """Class name of the exception."""
    message: str
    attempts: int | None = None
    """How often the record was tried, where the exception knows."""


class CarriedError(Exception):
    """An exception of another process, of which its fault alone came along."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault)
        self.fault = fault

    def __str__(self) -> str:
        return f"{self.fault.error}: {self.fault.message}"


def fault_of(error: BaseException) -> Fault:
    """Return what is kept of an exception."""
    if isinstance(error, CarriedError):
        return error.fault
    told = vars(error).get("attempts")
    return Fault(type(error).__name__, _words(error), told if type(told) is int else None)


def carried(error: BaseException) -> BaseException:
    """Return an exception that says and does the same, and that can be sent to any process."""
    if isinstance(error, StopRun):
        return StopRun(_words(error))
    if isinstance(error, KeyboardInterrupt):
        return KeyboardInterrupt()
    return CarriedError(fault_of(error))


def _words(error: BaseException) -> str:
    """Return what an exception says, whatever its own code does when it is asked."""
    try:
        # What leaves a program, such as SystemExit(1), says only "1".
        text = str(error) if isinstance(error, Exception) else ""
        return (text or repr(error))[:_MESSAGE_LIMIT]
    except Exception as second:
        return f"its own message raises {type(second).__name__}; mend {type(error).__name__}"
