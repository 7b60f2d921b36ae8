"""Plain text: one record per line of a file, or one per file of a folder."""

from __future__ import annotations

import glob
import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sage_dask.errors import PlanError, SourceError
from sage_dask.operators.files.rows import RowError, decode, row_failure
from sage_dask.operators.files.source import LineSource, Rows
from sage_dask.operators.files.textfile import check_file, read_whole
from sage_dask.record import Failure, Position, SourceItem
from sage_dask.stage import FieldSet

_UNITS = ("line", "file")


@dataclass
class ReadText(LineSource):
    """Read lines, or whole files, of text; ``.gz`` and ``.zst`` are unpacked on the way.

    Args:
        path: The file; for ``unit="file"`` also a folder, of which every file below it is
            read but hidden ones, or a pattern such as ``"papers/**/*.txt"``.
        unit: ``"line"`` makes a record of each line that is not blank, called by its number;
            ``"file"`` one of each file, in the order of the names, called by its path
            below the folder.
        field: The field that holds the text, without its line end.
        max_line_bytes: A longer line, or file, is a failed row.
    """

    unit: str = "line"
    field: str = "text"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.unit not in _UNITS:
            raise PlanError(
                f"ReadText({self.name!r}): unit={self.unit!r} must be one of {', '.join(_UNITS)}"
            )

    def check(self) -> None:
        """Raise ``SourceError`` unless there is something to read."""
        if self.unit == "line":
            super().check()
        else:
            _folder_and_files(self.file)

    def known_fields(self) -> FieldSet:
        """Return the one field there is."""
        return FieldSet(frozenset({self.field}), is_open=False)

    def size(self) -> int | None:
        """Return the number of files, or that of lines where they are quickly counted."""
        return super().size() if self.unit == "line" else len(_folder_and_files(self.file)[1])

    def read(self) -> Rows:
        """Yield a record or a failure for each line, or file."""
        if self.unit == "line":
            yield from super().read()
        else:
            yield from self._read_files()

    def failed_id(self, position: Position) -> str:
        """Return the line's number, which is the id of sound lines too."""
        return str(position.line)

    def parse(self, line: bytes, position: Position) -> SourceItem:
        """Return the line's text."""
        text = decode(line, self.max_line_bytes).rstrip("\r\n")
        return SourceItem(str(position.line), {self.field: text}, position)

    def _read_files(self) -> Iterator[SourceItem | Failure]:
        folder, files = _folder_and_files(self.file)
        item: SourceItem | Failure
        for number, path in enumerate(files, 1):
            name = _printable_name(path.relative_to(folder))
            position = Position(number)
            data = b""
            try:
                data = read_whole(path, self.max_line_bytes)
                text = decode(data, self.max_line_bytes)
                item = SourceItem(name, {self.field: text}, position)
            except (RowError, SourceError) as error:
                # One file is one row here: a broken one does not end the reading.
                item = row_failure(error, name, position, data)
            yield item


def _folder_and_files(path: Path) -> tuple[Path, list[Path]]:
    """Return the files that a path, folder or pattern stands for, and what they lie below.

    Raises:
        SourceError: There is no such file, or none that matches the pattern.
    """
    if path.is_dir():
        return path, _visible_files(path, "**/*")
    if path.exists() or not glob.has_magic(str(path)):
        check_file(path)
        return path.parent, [path]
    fixed = list(itertools.takewhile(lambda part: not glob.has_magic(part), path.parts))
    folder, pattern = Path(*fixed), str(Path(*path.parts[len(fixed) :]))
    files = _visible_files(folder, pattern)
    if not files:
        raise SourceError(
            f"input {str(path)!r} matches no file below {str(folder.absolute())!r}; "
            "check the pattern"
        )
    return folder, files


def _visible_files(folder: Path, pattern: str) -> list[Path]:
    """Return the files that match, by name, without those in or of hidden names."""
    return sorted(
        path
        for path in folder.glob(pattern)
        if path.is_file() and not _is_hidden(path.relative_to(folder))
    )


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _printable_name(path: Path) -> str:
    """Return a path as text that can be written as UTF-8, whatever bytes it is made of."""
    return os.fsencode(path.as_posix()).decode("utf-8", "backslashreplace")
