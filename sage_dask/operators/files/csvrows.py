"""Rows of cells from a CSV file, with the means to go on after a broken one.

A stray quote makes a CSV reader swallow the rows that follow.  The lines of the
row at hand are therefore kept until it proves sound; if it does not, all but
the first are read again as rows of their own.
"""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Generator
from pathlib import Path

from sage_dask.operators.files.rows import BadRowError, CutLine, RowError, RowTooLongError, decode
from sage_dask.operators.files.textfile import read_lines
from sage_dask.record import Position


class CsvRows:
    """The rows of a CSV file that are not blank, as lists of cells.

    Asking for a broken row raises ``RowError``; the next can be asked for all the same.
    """

    def __init__(self, path: Path, delimiter: str, max_bytes: int) -> None:
        self.width: int | None = None
        """Cells that a row must have, once that is known."""
        self._lines = _RowLines(read_lines(path, max_bytes), max_bytes)
        # The limit is the process's and is only ever raised, so that nobody else's rows
        # are refused for it.
        csv.field_size_limit(max(csv.field_size_limit(), max_bytes))
        self._reader = csv.reader(self._lines, delimiter=delimiter, strict=True)

    @property
    def position(self) -> Position:
        """Where the row at hand begins."""
        return self._lines.taken[0][0]

    @property
    def raw(self) -> bytes:
        """The first line of the row at hand."""
        return self._lines.taken[0][1]

    def __iter__(self) -> CsvRows:
        return self

    def __next__(self) -> list[str]:
        """Return the cells of the next row.

        Raises:
            RowError: The row is broken; its first line counts as read.
            SourceError: The file can not be read, or breaks off.
        """
        while True:
            self._lines.begin_row()
            try:
                cells = next(self._reader)
                self._check(cells)
            except csv.Error as error:
                self._lines.give_back()
                raise BadRowError(f"broken CSV ({error}); check the quotes of this row") from error
            except RowError:
                self._lines.give_back()
                raise
            if self.raw.strip():
                return cells

    def _check(self, cells: list[str]) -> None:
        if self._lines.fault is not None:
            raise self._lines.fault
        if self.width is not None and len(cells) != self.width and self.raw.strip():
            raise BadRowError(
                f"the row has {len(cells)} cells, and the header {self.width}; quote cells that "
                "hold the delimiter or a quote"
            )

    def close(self) -> None:
        """Let the file go."""
        self._lines.close()


class _RowLines:
    """Decoded lines for the CSV reader, and the raw ones that the row at hand is made of."""

    def __init__(
        self, lines: Generator[tuple[Position, bytes], None, None], max_bytes: int
    ) -> None:
        self.taken: list[tuple[Position, bytes]] = []
        self.fault: RowError | None = None
        self._lines = lines
        self._again: deque[tuple[Position, bytes]] = deque()
        self._max_bytes = max_bytes
        self._bytes = 0

    def begin_row(self) -> None:
        self.taken.clear()
        self.fault = None
        self._bytes = 0

    def give_back(self) -> None:
        """Put all lines but the first before those still to come."""
        self._again.extendleft(reversed(self.taken[1:]))
        del self.taken[1:]

    def close(self) -> None:
        self._lines.close()

    def __iter__(self) -> _RowLines:
        return self

    def __next__(self) -> str:
        position, line = self._again.popleft() if self._again else next(self._lines)
        self.taken.append((position, line))
        self._bytes += len(line)
        if type(line) is CutLine or self._bytes > self._max_bytes + 1:
            raise RowTooLongError(
                f"the row is longer than {self._max_bytes} bytes; close its quotes, or raise "
                "max_line_bytes"
            )
        try:
            return decode(line, self._max_bytes)
        except RowError as error:
            # The reader still needs the line's quotes, to find where the row ends.
            self.fault = self.fault or error
            return line.decode("utf-8", "replace")
