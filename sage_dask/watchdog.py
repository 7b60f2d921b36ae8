"""Tells why a run makes no progress, and ends it when that has lasted too long.

What ends so can go on: nothing that is safe is lost, and what holds it up may
be mended meanwhile.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from sage_dask.errors import RunError

# A batch takes a fraction of a second, or as long as a model's answer.
NOTE_AFTER_S = 30.0

# How often the reason is asked for again, which costs the scheduler a look at its tasks.
_ASK_EVERY_S = 10.0

# Longer than any model server needs to come back: whoever looks in the morning finds the reason.
MAX_STALL_S = 3600.0


class StalledError(RunError):
    """A run made no progress for longer than it may."""


class Watchdog:
    """Watches over the progress of one run.

    Args:
        explain: Returns what is under way and waits, in words.
        note: Shows a short note, or takes it away.
        max_stall_s: Seconds without progress that end the run.
        clock: Seconds; only differences count.
    """

    def __init__(
        self,
        explain: Callable[[], str],
        note: Callable[[str | None], None],
        max_stall_s: float = MAX_STALL_S,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._explain = explain
        self._note = note
        self._max_stall_s = max_stall_s
        self._clock = clock
        self._since_s = clock()
        self._asked_s: float | None = None

    def progressed(self) -> None:
        """Note that a batch came back."""
        self._since_s = self._clock()
        if self._asked_s is not None:
            self._asked_s = None
            self._note(None)

    def look(self) -> None:
        """Tell what holds the run up, if it is held up; to be called every second or so.

        Raises:
            StalledError: It has been for too long.
        """
        now_s = self._clock()
        stalled_s = now_s - self._since_s
        is_over = stalled_s >= self._max_stall_s
        if not is_over and (stalled_s < NOTE_AFTER_S or self._was_asked(now_s)):
            return
        self._asked_s = now_s
        told = f"no progress for {stalled_s:.0f} s: {self._explain()}"
        if is_over:
            raise StalledError(
                f"{told}; mend that and go on, or raise max_stall_s where tasks take so long"
            )
        self._note(told)

    def _was_asked(self, now_s: float) -> bool:
        return self._asked_s is not None and now_s - self._asked_s < _ASK_EVERY_S

    def __repr__(self) -> str:
        return f"<Watchdog, no progress for {self._clock() - self._since_s:.0f} s>"
