"""The file of a run's events: appended to as they come, and read to its last whole line.

A file that has grown large is set aside under a number, and a new one is begun;
nothing is ever dropped, and readers see all of it as one stream.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from sage_dask.errors import RunError, SageError
from sage_dask.events import Event, event_line, parse_event

# Editors and transfers still manage this much; a batch takes half a kilobyte to a few.
ROTATE_BYTES = 64 << 20


class EventFile:
    """An append-only file of events; each reaches the system as it comes.

    Args:
        path: Of the latest events; earlier ones stand beside it in ``events.0001.jsonl`` and so on.
        rotate_bytes: Size beyond which a file is set aside.

    Raises:
        OSError: The file can not be made, or it or one set aside is there.
    """

    def __init__(self, path: Path, *, rotate_bytes: int = ROTATE_BYTES) -> None:
        self._path = path
        self._rotate_bytes = rotate_bytes
        if has_events(path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
        self._num_aside = 0
        self._size = 0
        self._file = self._open()

    def append(self, event: Event) -> None:
        """Write one event.

        Raises:
            RunError: The disk refused.  Said once: nothing more is written then.
        """
        if self._file.closed:
            return
        # In one call, so that a kill tears at most the last line.
        line = memoryview(event_line(event) + b"\n")
        try:
            if self._size and self._size + len(line) > self._rotate_bytes:
                self._set_aside()
            self._size += len(line)
            while line:
                line = line[self._file.write(line) :]
        except OSError as error:
            self._file.close()
            raise RunError(
                f"events of the run can not be written to {str(self._path)!r} "
                f"({error.strerror}); free space or give another run_dir, and run again"
            ) from error

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _open(self) -> IO[bytes]:
        # Unbuffered: a full disk must be met in append, not when the file is closed.
        return self._path.open("xb", buffering=0)

    def _set_aside(self) -> None:
        self._file.close()
        self._num_aside += 1
        self._path.rename(_aside(self._path, self._num_aside))
        self._size, self._file = 0, self._open()


def read_events(path: Path) -> Iterator[Event]:
    """Yield the events of a file, and first of those set aside before it, to the last whole line.

    Raises:
        SageError: A line other than a torn last one is no event; the message names it.
    """
    number = 1
    while True:
        aside = _aside(path, number)
        if aside.exists():
            with aside.open("rb") as file:
                yield from _events_of(aside, file)
            number += 1
            continue
        try:
            file = path.open("rb")
        except FileNotFoundError:
            if number == 1:
                raise
            if aside.exists():
                continue
            # The run was killed between setting a file aside and beginning the next.
            return
        with file:
            # Its writer may have set it aside just now: then it is that one's turn.
            if not aside.exists():
                yield from _events_of(path, file)
                return


def has_events(path: Path) -> bool:
    """Return whether there are events, in the file or in one that was set aside."""
    return path.is_file() or _aside(path, 1).is_file()


def _events_of(path: Path, file: IO[bytes]) -> Iterator[Event]:
    for number, line in enumerate(file, start=1):
        if not line.endswith(b"\n"):
            return
        try:
            yield parse_event(line)
        except (ValueError, KeyError, TypeError) as error:
            raise SageError(
                f"{path}, line {number}: not an event ({type(error).__name__}: {error}); "
                "the file was changed after the run, or is no event file"
            ) from error


def _aside(path: Path, number: int) -> Path:
    return path.with_name(f"{path.stem}.{number:04}{path.suffix}")
