"""A run that waits for a lost scheduler, and goes on in its folder.

Nothing is kept on the scheduler that the folder has not, so any scheduler that
answers at the address will do.
"""

from __future__ import annotations

import json
import logging
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sage_dask.errors import RunError, SchedulerLostError
from sage_dask.report import Report

# How long a scheduler may be away: restarting one, or waiting for a node, takes minutes.
LIMIT_S = 600.0

# Whoever waits looks soon at first, since most restarts are quick, and then not too often.
_FIRST_S = 0.5
_MOST_S = 10.0

# A scheduler that is lost so often has another trouble than a restart.
MOST_LOSSES = 100

_ANSWER_S = 5


def reconnecting(
    run: Callable[[int], Report], *, wait: Callable[[SchedulerLostError], None]
) -> Report:
    """Run until the end, however often the scheduler is lost meanwhile, within reason.

    Args:
        run: Starts the run, or goes on with it; told how often the scheduler was lost.
        wait: Returns once there is a scheduler again, or raises.
    """
    for num_lost in range(MOST_LOSSES):
        try:
            return run(num_lost)
        except SchedulerLostError as error:
            wait(error)
    return run(MOST_LOSSES)


def await_scheduler(
    scheduler: str,
    lost: SchedulerLostError,
    *,
    say: Callable[[str], object],
    is_there: Callable[[str], bool] | None = None,
    limit_s: float = LIMIT_S,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], object] = time.sleep,
    jitter: Callable[[], float] = random.random,
) -> None:
    """Return once a scheduler with a worker answers.

    Args:
        scheduler: Address or scheduler file.
        lost: What to raise if none does.
        say: Told of the wait and its end.
        is_there: Whether one answers at an address.
        limit_s: How long to wait.
        clock: Seconds; only differences count.
        sleep: Waits.
        jitter: Between 0 and 1; runs that lost one scheduler should not ask together.

    Raises:
        SchedulerLostError: None answered in time.
    """
    say(f"scheduler {scheduler} is lost; waiting up to {limit_s / 60:.0f} minutes for it")
    is_there = is_there or _has_workers
    started_s = clock()
    pause_s = _FIRST_S
    while (left_s := started_s + limit_s - clock()) > 0:
        # Half of it at least, so that the pauses grow.
        sleep(min(left_s, pause_s * (1 + jitter()) / 2))
        if _answers(scheduler, is_there):
            say(f"scheduler {scheduler} is back after {clock() - started_s:.0f} s; going on")
            return
        pause_s = min(_MOST_S, 2 * pause_s)
    lost.add_note(f"no scheduler with a worker answered at {scheduler} for {limit_s / 60:.0f} min")
    raise lost


@contextmanager
def without_tracebacks() -> Iterator[None]:
    """Keep Dask's client from logging a lost scheduler: the run says it in one sentence."""
    # Imported first, for that sets the levels of its loggers.
    import distributed  # noqa: F401

    logger = logging.getLogger("distributed.client")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)


def address_of(scheduler: str) -> str:
    """Return the address of a scheduler: what is given, or what a scheduler file says.

    Raises:
        RunError: The file can not be read, or says nothing of the kind.
    """
    file = Path(scheduler)
    if file.suffix != ".json" and not file.is_file():
        return scheduler
    try:
        return str(json.loads(file.read_bytes())["address"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(
            f"scheduler file {scheduler!r} can not be read ({type(error).__name__}: {error}); "
            "start the scheduler with 'dask scheduler --scheduler-file', or give its address"
        ) from error


def _answers(scheduler: str, is_there: Callable[[str], bool]) -> bool:
    try:
        return is_there(address_of(scheduler))
    except RunError:
        # The file of a scheduler that is gone is gone, too, or being written.
        return False


def _has_workers(address: str) -> bool:
    from distributed import Client

    try:
        with Client(address, timeout=_ANSWER_S, set_as_default=False) as client:
            identity = client.sync(client.scheduler.identity, n_workers=-1)
            return bool(identity["workers"])
    except (OSError, ValueError):
        return False
