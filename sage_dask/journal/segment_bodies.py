"""Reads single lines of segments again, for what they hold is not kept in memory."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO, Self

from sage_dask.journal.segment_file import journal_error, segment_path
from sage_dask.journal.segment_lines import unseal
from sage_dask.journal.segment_reader import damaged

# A location is the number of a segment above so many bits of an offset in it.
_OFFSET_BITS = 44
_OFFSET = (1 << _OFFSET_BITS) - 1


def location(number: int, offset: int) -> int:
    """Return where a line lies, as one number."""
    return number << _OFFSET_BITS | offset


class Bodies:
    """Gives lines by their locations.

    Args:
        folder: Of the segments.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[int, BinaryIO] = {}
        self._open = ExitStack()

    def read(self, location: int) -> list[Any]:
        """Return the fields of a line that was read or written before.

        Raises:
            CorruptJournalError: It is not the same any more.
            JournalError: It can not be read.
        """
        number, offset = location >> _OFFSET_BITS, location & _OFFSET
        path = segment_path(self._folder, number)
        try:
            if number not in self._files:
                self._files[number] = self._open.enter_context(path.open("rb"))
            file = self._files[number]
            file.seek(offset)
            fields = unseal(file.readline())
            if fields is None:
                raise damaged(path, line_at(path, offset), "is not what was written")
        except OSError as error:
            raise journal_error(path, "read", error) from error
        return fields

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._open.close()


def line_at(path: Path, offset: int) -> int:
    """Return the number of the line that begins at a byte, from 1, as editors count."""
    with path.open("rb") as file:
        rest, lines = offset, 1
        while rest > 0 and (data := file.read(min(rest, 1 << 20))):
            rest -= len(data)
            lines += data.count(b"\n")
    return lines
