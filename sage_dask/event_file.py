"""The file of a run's events: appended to as they come, and read to its last whole line.

A file that has grown large is set aside under a number, and a new one is begun;
nothing is ever dropped, and readers see all of it as one stream.
"""

from __future__ import annotations

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
        OSError: The file can not be made, or is there.
    """

    def __init__(self, path: Path, *, rotate_bytes: int = ROTATE_BYTES) -> None:
        self._path = path
        self._rotate_bytes = rotate_bytes
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
        self._path.rename(_aside(self._path, f"{self._num_aside:04}"))
        self._size, self._file = 0, self._open()


def read_events(path: Path) -> Iterator[Event]:
    """Yield the events of a file, and first of those set aside before it, to the last whole line.

    Raises:
        SageError: A line other than a torn last one is no event; the message names it.
    """
    for each in (*sorted(path.parent.glob(_aside(path, "[0-9]" * 4).name)), path):
        yield from _events_of(each)


def _events_of(path: Path) -> Iterator[Event]:
    with path.open("rb") as file:
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


def _aside(path: Path, number: str) -> Path:
    return path.with_name(f"{path.stem}.{number}{path.suffix}")
