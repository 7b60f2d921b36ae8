"""Progress as plain lines, for logs and pipes: one per job, every few seconds."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from threading import Lock
from typing import IO, Self

from sage_dask.printable import plain
from sage_dask.progress.overview import names_of
from sage_dask.progress.words import summary
from sage_dask.standing import RUNNING, Progress

LINE_INTERVAL_S = 5.0


@dataclass(slots=True)
class _Job:
    """What a log knows of one job."""

    progress: Progress
    next_s: float
    is_written: bool = False
    """Whether the log has its latest counts."""
    num_notes: int = 0


class LineProgress:
    """Writes how far runs are as plain lines; pass it as the observer of one run or of several.

    Args:
        stream: Where lines go.
        clock: Seconds; only differences count.
    """

    def __init__(self, stream: IO[str], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._jobs: dict[tuple[str, str], _Job] = {}
        self._lock = Lock()

    def __call__(self, progress: Progress) -> None:
        """Take a new state, and write it unless a line of that job was written just now.

        A note that comes or goes is written at once; one that is merely reworded, such as
        with its seconds, waits like the rest.
        """
        with self._lock:
            key = progress.pipeline, progress.job
            job = self._jobs.setdefault(key, _Job(progress, self._clock()))
            job.is_written = job.is_written and _same(progress, job.progress)
            job.progress = progress
            is_over = progress.outcome != RUNNING
            if is_over or len(progress.notes) != job.num_notes or self._clock() >= job.next_s:
                self._write(key, job)
            if is_over:
                del self._jobs[key]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        """Write what is yet unwritten of jobs that said nothing of their end."""
        with self._lock:
            for key, job in self._jobs.items():
                self._write(key, job)
            self._jobs.clear()

    def _write(self, key: tuple[str, str], job: _Job) -> None:
        if job.is_written:
            return
        progress, keys = job.progress, list(self._jobs)
        name = names_of(keys)[keys.index(key)]
        state = summary(progress, progress.elapsed_s)
        line = "   ".join([f"{plain(name)}: {state}", *map(plain, progress.notes)])
        # Whoever read may have gone, or the log's disk be full: no reason to end the run.
        with suppress(OSError, ValueError):
            self._stream.write(line + "\n")
            self._stream.flush()
        job.is_written = True
        job.num_notes = len(progress.notes)
        job.next_s = self._clock() + LINE_INTERVAL_S


def _same(progress: Progress, before: Progress) -> bool:
    """Return whether nothing is new but the time, as at an end that brings nothing else."""
    is_well = progress.outcome in (before.outcome, "done")
    counts = ("num_read", "num_written", "num_failed", "num_filtered", "tokens", "notes")
    return is_well and all(getattr(progress, name) == getattr(before, name) for name in counts)
