"""Which way of showing progress suits where the program runs."""

from __future__ import annotations

import os
import sys
from typing import IO, Self

from sage_dask.progress.lines import LineProgress
from sage_dask.progress.live import LiveProgress
from sage_dask.standing import Progress


class NoProgress:
    """Shows nothing."""

    def __call__(self, progress: Progress) -> None:
        """Take a new state and forget it."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        return None


def show_progress(
    stream: IO[str] | None = None, *, quiet: bool = False
) -> LiveProgress | LineProgress | NoProgress:
    """Return an observer that shows how far runs are: ``pipeline.run(observer=show_progress())``.

    In a notebook and on a terminal it is one table, in a log a plain line per job every few
    seconds.  It begins and ends with the runs that it observes; ``with`` makes sure of the end.

    Args:
        stream: Where to show it; None for the notebook, or for standard error.  A process
            that has none is shown nothing.
        quiet: Show nothing.
    """
    if quiet:
        return NoProgress()
    if stream is None and is_notebook():
        from sage_dask.progress.notebook import Notebook

        return LiveProgress(Notebook())
    stream = sys.stderr if stream is None else stream
    if stream is None:
        return NoProgress()
    if not is_live(stream):
        return LineProgress(stream)
    from rich.console import Console

    from sage_dask.progress.terminal import Terminal

    return LiveProgress(Terminal(Console(file=stream)))


def is_notebook() -> bool:
    """Return whether this process is the kernel of a notebook, and not a terminal's IPython."""
    if "IPython" not in sys.modules:
        return False
    from IPython import get_ipython

    return hasattr(get_ipython(), "kernel")


def is_live(stream: IO[str]) -> bool:
    """Return whether a stream is a terminal on which something can be drawn in place."""
    return stream.isatty() and os.environ.get("TERM") not in ("dumb", "unknown")
