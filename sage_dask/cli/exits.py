"""Exit codes of all commands."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sage_dask.errors import PlanError, SageError

DONE = 0
RUN = 1
"""The run did not do its job."""
PLAN = 2
"""The command line or the plan is wrong; nothing was spent.  Also click's own code for usage."""
SOME_FAILED = 3
"""The run is done, but some records failed."""
BUDGET = 4
"""The run stopped because it had spent what it might; what was written is kept."""
INTERRUPTED = 130
"""Ctrl-C; the shell's own code for it."""

HELP = """\b
Exit codes:
  0    done, and nothing failed
  1    the run did not do its job
  2    usage or plan error; nothing was spent
  3    done, but some records failed; they are in the failed file
  4    the budget was reached before the end of the input; what was written is kept
  130  interrupted with Ctrl-C; 143 and 129 for SIGTERM and SIGHUP, in the same good order
"""


@contextmanager
def nothing_spent() -> Iterator[None]:
    """Make every refusal in the block a plan error: it came before any work."""
    try:
        yield
    except PlanError:
        raise
    except SageError as error:
        raise PlanError(str(error)) from error
