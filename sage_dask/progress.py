"""How far a run is, on a terminal or in a log.

A terminal gets one live line, redrawn at most four times a second; anything
else gets a plain line every few seconds, so that a job's log stays readable.
The last state stays on the screen.  Notes, such as of a model server that is
down, are shown as soon as they come, also while nothing else happens.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import IO, TYPE_CHECKING, Self

from sage_dask.metrics import clock_time, in_short, money
from sage_dask.standing import Progress

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

REFRESH_PER_SECOND = 4
LINE_INTERVAL_S = 5.0

_BAR_CHARS = 30


def summary(progress: Progress, elapsed_s: float) -> str:
    """Return the counts of a run as one line, without its name and bar.

    Args:
        progress: The latest state.
        elapsed_s: Seconds since the first read, which may have gone on since that state.
    """
    return "   ".join(part for part in _parts(progress, elapsed_s) if part)


class LineProgress:
    """Shows progress as plain lines; for logs and pipes.

    Use it in ``with`` and pass it as the observer of a run.

    Args:
        stream: Where lines go.
        clock: Seconds; only differences count.
    """

    def __init__(self, stream: IO[str], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._next_s = clock()
        self._unseen: Progress | None = None
        self._num_notes = 0

    def __call__(self, progress: Progress) -> None:
        """Take a new state, and write it unless a line was written just now.

        A note that comes or goes is written at once; one that is merely reworded, such as
        with its seconds, waits like the rest.
        """
        self._unseen = progress
        if len(progress.notes) != self._num_notes or self._clock() >= self._next_s:
            self._write()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._write()

    def _write(self) -> None:
        if self._unseen is None:
            return
        state = summary(self._unseen, self._unseen.elapsed_s)
        line = "   ".join(
            [f"{self._unseen.pipeline}: {state}", *map(_one_line, self._unseen.notes)]
        )
        # Whoever read may have gone, or the log's disk be full: no reason to end the run.
        with suppress(OSError):
            self._stream.write(line + "\n")
            self._stream.flush()
        self._num_notes = len(self._unseen.notes)
        self._unseen = None
        self._next_s = self._clock() + LINE_INTERVAL_S


class LiveProgress:
    """Shows progress as one line with a bar that is redrawn in place; for terminals.

    The line is drawn by a thread of its own, so time goes on while a slow batch
    is awaited, and taking a new state costs an assignment.

    Args:
        console: The terminal.
        clock: Seconds; only differences count.
    """

    def __init__(self, console: Console, *, clock: Callable[[], float] = time.monotonic) -> None:
        from rich.live import Live

        self._clock = clock
        self._latest: tuple[Progress, float] | None = None
        self._live = Live(
            console=console, refresh_per_second=REFRESH_PER_SECOND, get_renderable=self.render
        )

    def __call__(self, progress: Progress) -> None:
        """Take a new state; it is shown with the next redraw."""
        self._latest = (progress, self._clock())

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._latest is not None:
            # What stays on the screen is the last state, not the time it took to leave.
            self._latest = (self._latest[0], self._clock())
        self._live.stop()

    def render(self) -> RenderableType:
        """Return the line as it stands now, and each note on one of its own below it."""
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        if self._latest is None:
            return Text("waiting for the first records ...")
        progress, taken_s = self._latest
        elapsed_s = progress.elapsed_s + self._clock() - taken_s
        cells: list[RenderableType] = [Text(progress.pipeline)]
        if progress.expected:
            done = min(progress.num_read, progress.expected)
            cells.append(ProgressBar(total=progress.expected, completed=done, width=_BAR_CHARS))
        cells.append(Text(summary(progress, elapsed_s)))
        line = Table.grid(padding=(0, 2))
        line.add_row(*cells)
        return Group(line, *(Text(f"  {_one_line(note)}") for note in progress.notes))


class NoProgress:
    """Shows nothing."""

    def __call__(self, progress: Progress) -> None:
        """Take a new state and forget it."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        return None


def show_progress(
    stream: IO[str] | None, *, quiet: bool = False
) -> LiveProgress | LineProgress | NoProgress:
    """Return what suits a stream: a live line on a terminal, plain lines elsewhere.

    A stream that was closed before the program started is None, and gets nothing.
    """
    if quiet or stream is None:
        return NoProgress()
    if not stream.isatty():
        return LineProgress(stream)
    from rich.console import Console

    return LiveProgress(Console(file=stream))


def _parts(progress: Progress, elapsed_s: float) -> list[str]:
    done = progress.num_read
    rate = (done - progress.num_before) / elapsed_s if elapsed_s > 0 else 0.0
    parts = [f"{done:,} done"]
    if progress.expected is not None:
        share = f" ({min(1.0, done / progress.expected):.0%})" if progress.expected else ""
        parts = [f"{done:,} of {progress.expected:,} done{share}"]
    parts.append(f"{rate:,.1f}/s")
    parts.append(f"{progress.num_failed:,} failed" if progress.num_failed else "")
    parts.append(f"{progress.num_filtered:,} filtered" if progress.num_filtered else "")
    parts.append(f"{in_short(progress.tokens)} tokens" if progress.tokens else "")
    parts.append(f"cost {money(progress.cost)}" if progress.cost else "")
    parts.append(clock_time(elapsed_s))
    left = max(0, (progress.expected or 0) - done)
    parts.append(f"{clock_time(left / rate)} left" if left and rate else "")
    return parts


def _one_line(note: str) -> str:
    """Return a note without line breaks: some of its words may be a server's."""
    return " ".join(note.split())
