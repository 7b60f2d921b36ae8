"""Every error the package raises on purpose, and the words they share.

One base class, so that a script can catch what is ours and let the rest fly.
A message names the thing first, then what was found against what was wanted,
then the mend.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class SageError(Exception):
    """Something that sage_dask refuses or could not do; the message says how to mend it."""


class PlanError(SageError):
    """The declaration can not run; raised before any work is spent."""


class SpecError(PlanError):
    """A YAML file does not describe a pipeline; the message carries the line."""


class MissingDependencyError(PlanError):
    """An optional package is needed and absent."""


class SourceError(SageError):
    """The input as a whole can not be read."""


class SinkError(SageError):
    """The output as a whole can not be written."""


class SetupError(SageError):
    """An operator could not be made ready on a worker."""


class StopRun(SageError):  # noqa: N818 - an order, as StopIteration is
    """Raised by an operator when no further record can succeed; it ends the run.

    Any other exception fails one record.  Use this one for a refused API key,
    not for a bad row.
    """


class RunError(SageError):
    """A run ended without doing its job."""


class TooManyFailuresError(RunError):
    """More records failed than the run may have."""


class SchedulerLostError(RunError):
    """The cluster's scheduler is gone, and with it whatever it held."""


class JobCancelledError(RunError):
    """Somebody ended the job from outside."""


class PolicyError(RunError):
    """A placement policy raised, was slow, or chose a node that can not take the task."""

    def __init__(self, message: str, where: str = "") -> None:
        super().__init__(message, where)
        self.where = where

    def __str__(self) -> str:
        # The policy ran on the scheduler, so its traceback has to travel as text.
        return f"{self.args[0]}\n\n{self.where}" if self.where else str(self.args[0])


class InvariantError(SageError):
    """The scheduler's counts contradict each other; a defect of sage_dask."""


class AccountingError(RunError):
    """Records that were read are neither written, failed nor filtered."""


def did_you_mean(wanted: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the closest known name, or nothing."""
    # Case is the first thing that goes wrong: Dask lower-cases names in its settings.
    by_lower = {name.lower(): name for name in known}
    close = difflib.get_close_matches(wanted.lower(), by_lower, n=1, cutoff=0.6)
    return f"; did you mean {by_lower[close[0]]!r}?" if close else ""


def counted(number: int | None, noun: str) -> str:
    """Return a number of things in words: ``1 record``, ``2,000 records``."""
    return f"{number or 0:,} {noun}{'' if number == 1 else 's'}"


def listed(names: Iterable[str]) -> str:
    """Return names as they stand in a message: quoted, sorted, comma between."""
    return ", ".join(repr(name) for name in sorted(names)) or "none"
