"""What the first Ctrl-C does, and the second.

A run that keeps a journal loses nothing by stopping at once, but for the work under
way.  So the first signal lets that end; the second raises, as it would without this.
A supervisor's SIGTERM asks once and then kills: the second comes of itself, in time.

Handlers interrupt whatever the main thread does, so they take no locks and print
nothing.  A thread that only waits tells people, and keeps the time.
"""

from __future__ import annotations

import math
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from queue import Empty, SimpleQueue
from types import FrameType
from typing import Any

from sage_dask.errors import PlanError

VARIABLE = "SAGE_DASK_GRACE_S"

# Kubernetes and SLURM kill 30 s after SIGTERM unless told otherwise; some of it is for the end.
GRACE_S = 20.0

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

# How soon a signal that was not heard is sent again.
_AGAIN_S = 0.2

_STOPPING = "stopping: what is under way is finished first"


@contextmanager
def stopping_on_signals(
    stop: Callable[[BaseException], object],
    wake: Callable[[], object],
    tell: Callable[[str], object],
) -> Iterator[None]:
    """Have the first signal stop the block in good order, and the second raise in it.

    Signals whose handlers do not raise keep them: those that are ignored, those that end the
    process, and all of them outside of the main thread, where Python takes no handlers.

    Args:
        stop: Told by the handler what the signal would have raised; takes no lock.
        wake: Called after it, likewise, so that whoever waits looks.
        tell: Told, in a thread of its own, what to show.

    Raises:
        BaseException: What the signal would have raised, should the block end without.
        PlanError: The environment variable ``SAGE_DASK_GRACE_S`` is no number of seconds.
    """
    grace_s = _grace_s()
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    interrupts = _Interrupts(stop, wake, tell, grace_s)
    try:
        interrupts.begin()
        try:
            yield
        finally:
            interrupts.end()
    finally:
        interrupts.restore()
    if interrupts.reason is not None:
        raise interrupts.reason


class _Interrupts:
    """The signals of one run.

    Made, begun, ended and restored in the main thread, where handlers run, too.
    """

    def __init__(
        self,
        stop: Callable[[BaseException], object],
        wake: Callable[[], object],
        tell: Callable[[str], object],
        grace_s: float,
    ) -> None:
        self._stop = stop
        self._wake = wake
        self._tell = tell
        self._grace_s = grace_s
        self._main = threading.get_ident()
        self._before: dict[int, Callable[[int, FrameType | None], Any]] = {}
        # The only queue that may be filled by a handler: its put can not wait for itself.
        self._news: SimpleQueue[int | None] = SimpleQueue()
        self._watch = threading.Thread(target=self._watch_news, name="interrupts", daemon=True)
        self._is_bounded = False
        self._is_urgent = False
        self._is_cut_off = False
        self.reason: BaseException | None = None
        """What the first signal would have raised."""

    def begin(self) -> None:
        """Take over the signals."""
        for number in _SIGNALS:
            before = signal.getsignal(number)
            # Neither SIG_DFL nor SIG_IGN can be called, nor what C code has set.
            if callable(before):
                self._before[number] = before
                signal.signal(number, self._handle)
        self._watch.start()

    def end(self) -> None:
        """End the thread; no signal hurries itself from here on."""
        self._news.put(None)
        self._watch.join()

    def restore(self) -> None:
        """Give the signals back."""
        for number, before in self._before.items():
            signal.signal(number, before)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        """Stop, or raise; runs between any two instructions of the main thread."""
        is_first = self.reason is None
        by_hand = number == signal.SIGINT
        if (self._is_urgent and not self._is_cut_off) or (by_hand and not is_first):
            self._is_cut_off = True
            self._before[number](number, frame)
            return
        if self._is_bounded:
            # ``timeout`` sends SIGTERM twice, a shell that hangs up SIGHUP: they mean one.
            return
        try:
            self._before[number](number, frame)
        except BaseException as error:
            self._is_bounded = not by_hand
            if is_first:
                self.reason = error
                self._stop(error)
                self._wake()
            self._news.put(number)

    def _watch_news(self) -> None:
        """Tell of the signals, and raise what a supervisor has sent once its time is over."""
        number = self._news.get()
        if number == signal.SIGINT:
            self._show(f"{_STOPPING}; Ctrl-C again stops now")
            number = self._news.get()
        if number is None:
            return
        self._show(f"{_STOPPING}, for {self._grace_s:g} s at most")
        if self._is_over(self._grace_s):
            return
        self._is_urgent = True
        # Again and again: a signal that comes just before the main thread begins to wait does
        # not end that wait, as Python looks only in between.
        while not self._is_cut_off:
            signal.pthread_kill(self._main, number)
            if self._is_over(_AGAIN_S):
                return

    def _is_over(self, timeout_s: float) -> bool:
        """Return whether the block ended, or ends within a time."""
        try:
            self._news.get(timeout=timeout_s)
        except Empty:
            return False
        return True

    def _show(self, text: str) -> None:
        # Whatever becomes of a note, time must be kept.
        with suppress(Exception):
            self._tell(text)


def _grace_s() -> float:
    """Return how long a supervisor is thought to wait, in seconds."""
    given = os.environ.get(VARIABLE, "")
    try:
        grace_s = float(given or GRACE_S)
    except ValueError:
        grace_s = math.nan
    if not 0 <= grace_s <= threading.TIMEOUT_MAX:
        raise PlanError(
            f"{VARIABLE}={given!r} is not a number of seconds, such as {GRACE_S:g}: the time "
            "between SIGTERM and the end of what was under way"
        )
    return grace_s
