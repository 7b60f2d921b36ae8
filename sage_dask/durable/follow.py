"""A file that grows while a run goes on, for those who want to watch; not its output.

Its rows come as they are done, in no order, and records that are tried again
come again.  It stands in the run's folder, and begins with a line that says so.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path

from sage_dask.errors import RunError
from sage_dask.journal.entries import Entry
from sage_dask.journal.rows import Row, unpack
from sage_dask.operators.files.jsontext import json_line_of_anything
from sage_dask.record import Record

# In a run's folder.
GROWING = "growing.jsonl"


class Follower:
    """Writes rows to the growing file.

    Args:
        folder: Of the run.
        output: Name of the output, for the first line.
    """

    def __init__(self, folder: Path, output: str) -> None:
        self._path = folder / GROWING
        self._output = output
        self._file: io.FileIO | None = None

    def open(self, entries: Iterable[Entry]) -> None:
        """Begin anew, with what is done already.

        Raises:
            RunError: It can not be written.
        """
        head = {
            "note": "grows while the run goes on; rows come as they are done",
            "output": self._output,
        }
        try:
            self._file = io.FileIO(self._path, "w")
        except OSError as error:
            raise self._error(error) from error
        self._write([head])
        self.add(entries)

    def add(self, entries: Iterable[Entry]) -> None:
        """Append what came of some rows.

        Raises:
            RunError: The disk refused.
        """
        for entry in entries:
            self._write(_rows(unpack(entry)))

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()

    def _write(self, rows: Iterable[Record]) -> None:
        if self._file is None:
            return
        lines = memoryview(b"".join(map(json_line_of_anything, rows)))
        try:
            while lines:
                lines = lines[self._file.write(lines) :]
        except OSError as error:
            raise self._error(error) from error

    def _error(self, error: OSError) -> RunError:
        return RunError(
            f"{str(self._path)!r} can not be written ({error.strerror}); free space, or go on "
            "without follow"
        )


def _rows(row: Row) -> list[Record]:
    done = [{"id": record_id, "record": record} for record_id, record in row.outputs]
    return done + [{"id": failure.id, "failed": failure.as_record()} for failure in row.failures]
