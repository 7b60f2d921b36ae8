"""A table that shows the runs of this process while they go on.

It begins with the first news of a run and ends with the end of the last one, so
that nobody has to open or close it.  A thread of its own draws it: time goes on
while a slow batch is awaited, and taking a new state costs an assignment.
"""

from __future__ import annotations

import atexit
import time
from collections.abc import Callable
from contextlib import suppress
from threading import Event, Lock, RLock, Thread
from typing import Protocol, Self

from sage_dask.progress.overview import Jobs, Overview
from sage_dask.standing import Progress

DRAWS_PER_SECOND = 4


class Screen(Protocol):
    """Where a table is shown; one thread at a time calls it."""

    def open(self) -> None:
        """Make ready for a table."""
        ...

    def draw(self, overview: Overview) -> None:
        """Draw a table in the place of the one before."""
        ...

    def close(self) -> None:
        """Leave the last table where it is, and everything else as it was found."""
        ...


class LiveProgress:
    """Shows runs in one table that is drawn in place; pass it as their observer.

    Runs that go on at once, each in a thread of its own, share the table of one object.

    Args:
        screen: Where.
        clock: Seconds; only differences count.
    """

    def __init__(self, screen: Screen, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._screen = screen
        self._clock = clock
        self._jobs = Jobs()
        # The first for what is to be shown, the second for showing it: a terminal that takes
        # nothing, as after Ctrl-S, must not hold up the run.
        self._lock = RLock()
        self._drawing = Lock()
        self._ended: Event | None = None
        """Of the table that is there; None where there is none."""

    def __call__(self, progress: Progress) -> None:
        """Take a new state; it is shown with the next drawing, and the last one at once."""
        with self._lock:
            self._jobs.hear(progress, self._clock())
            if self._ended is None:
                self._begin()
            if self._jobs.are_over:
                self._end()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        """End the table, also where a run broke off without a word."""
        self._end()

    def _begin(self) -> None:
        self._ended = Event()
        # For runs that nobody ends, such as in a thread that is left behind.
        atexit.register(self._end)
        with self._drawing, _surviving():
            self._screen.open()
        thread = Thread(target=self._keep_drawing, args=(self._ended,), name="progress")
        thread.daemon = True
        thread.start()

    def _end(self) -> None:
        with self._lock:
            if self._ended is None:
                return
            self._ended.set()
            self._ended = None
            atexit.unregister(self._end)
            with self._drawing, _surviving():
                try:
                    self._screen.draw(self._jobs.overview(self._clock()))
                finally:
                    self._screen.close()
            self._jobs = Jobs()

    def _keep_drawing(self, ended: Event) -> None:
        is_over = False
        while not is_over:
            with self._drawing, _surviving():
                if not ended.is_set():
                    self._screen.draw(self._jobs.overview(self._clock()))
            is_over = ended.wait(1 / DRAWS_PER_SECOND)


def _surviving() -> suppress:
    """Have a run go on where its screen is gone: a terminal that hung up, a closed stream."""
    return suppress(OSError, ValueError)
