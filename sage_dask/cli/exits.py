"""Exit codes of all commands."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sage_dask.errors import (
    JobCancelledError,
    PlanError,
    SageError,
    SchedulerLostError,
    TooManyFailuresError,
)

DONE = 0
RUN = 1
"""The run did not do its job."""
PLAN = 2
"""The command line or the plan is wrong; nothing was spent.  Also click's own code for usage."""
SOME_FAILED = 3
"""The run is done, but some records failed."""
BUDGET = 4
"""The run stopped because it had spent what it might; what was written is kept."""
SCHEDULER_LOST = 5
"""The cluster's scheduler is gone; a run with a folder goes on once there is one."""
TOO_MANY_FAILED = 6
"""The run stopped because more records failed than might: look before it is started again."""
CANCELLED = 7
"""Somebody ended the job from outside; not 1, which scripts take for a reason to try again."""
INTERRUPTED = 130
"""Ctrl-C; the shell's own code for it."""

HELP = """\b
Exit codes:
  0    done, and nothing failed
  1    the run did not do its job
  2    usage or plan error; nothing was spent
  3    done, but some records failed; they are in the failed file
  4    the budget was reached before the end of the input; what was written is kept
  5    the cluster's scheduler was lost; with a run folder: sage-dask resume DIR
  6    more records failed than --max-errors allows
  7    somebody cancelled the job; with a run folder: sage-dask resume DIR
  130  interrupted with Ctrl-C; 143 and 129 for SIGTERM and SIGHUP, in the same good order
"""

_CODES: tuple[tuple[type[SageError], int], ...] = (
    (PlanError, PLAN),
    (SchedulerLostError, SCHEDULER_LOST),
    (TooManyFailuresError, TOO_MANY_FAILED),
    (JobCancelledError, CANCELLED),
)


def code_of(error: SageError) -> int:
    """Return the exit code of an error of ours."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), RUN)


@contextmanager
def nothing_spent() -> Iterator[None]:
    """Make every refusal in the block a plan error: it came before any work."""
    try:
        yield
    except PlanError:
        raise
    except SageError as error:
        raise PlanError(str(error)) from error
