"""Deadlines: a call of an operator that takes too long is given up.

No call may take longer than its stage's ``deadline_s``, however many records it
has.  How it ends is up to where it runs: one that waits is cancelled, a subprocess
is killed.  A thread that computes can be neither, so all that is left is to say so
while it runs, and not to take what it brings too late.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from sage_dask.errors import SageError, counted
from sage_dask.stage import Stage

_log = logging.getLogger(__name__)

T = TypeVar("T")

# How long a cancelled call may tidy up before it counts as one that goes on all the same.
_TIDY_S = 1.0


class GivenUpError(SageError):
    """A call came to no end of its own; whose fault that is shows when each record is alone."""


class DeadlineError(GivenUpError):
    """A record was not finished within its stage's ``deadline_s``."""


def check_in_time(stage: Stage, seconds: float) -> None:
    """Refuse what a call brought too late.

    Raises:
        DeadlineError: The call took longer than the stage allows.
    """
    if stage.deadline_s is not None and seconds > stage.deadline_s:
        raise DeadlineError(
            f"stage {stage.name!r}: took {seconds:.3g} s, more than deadline_s={stage.deadline_s:g}"
            "; raise it, or mend what takes so long with this record"
        )


async def in_time(stage: Stage, awaitable: Awaitable[T]) -> T:
    """Await a call, and cancel it at the deadline.

    Raises:
        DeadlineError: It was cancelled.
    """
    try:
        async with asyncio.timeout(stage.deadline_s) as limit:
            return await awaitable
    except TimeoutError:
        if not limit.expired():
            raise
    raise DeadlineError(
        f"stage {stage.name!r}: not finished within deadline_s={stage.deadline_s:g}, so it was "
        "cancelled; raise it, or mend what takes so long with this record"
    )


@contextmanager
def reported(stage: Stage, num_records: int) -> Iterator[None]:
    """Warn once, while it still runs, of a call that takes no notice of its deadline."""
    if stage.deadline_s is None:
        yield
        return
    if stage.operator.is_async:
        after_s = stage.deadline_s + _TIDY_S
        mend = "it catches its cancellation or blocks the event loop: await what it waits for"
    else:
        after_s = stage.deadline_s
        mend = "a thread can not be stopped: with isolate=True its subprocess would be killed"
    timer = threading.Timer(
        after_s,
        _log.warning,
        (
            "stage %r: a call with %s still runs after %g s, and deadline_s=%g; %s",
            stage.name,
            counted(num_records, "record"),
            after_s,
            stage.deadline_s,
            mend,
        ),
    )
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
