"""What sources that read one file have in common: the path, its check, a look at the first rows."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TypeAlias

from sage_dask.errors import PlanError
from sage_dask.operators.files.rows import MAX_LINE_BYTES, RowError, row_failure
from sage_dask.operators.files.textfile import PACKED, check_file, read_lines
from sage_dask.record import Failure, Position, SourceItem
from sage_dask.stage import FieldSet, Source

# What ``read`` gives: a generator, so that whoever stops early can close the file.
Rows: TypeAlias = Generator[SourceItem | Failure, None, None]

# How many good rows are looked at to learn the fields, and how many rows at all, so
# that a file of nothing but faults is not read to its end while planning.
PEEK_RECORDS = 100
_PEEK_ROWS = 1000

# Counted in a third of a second; larger files are read without knowing where they end.
_COUNTED_BYTES = 64 << 20


@dataclass
class FileSource(Source):
    """A source that reads one file."""

    path: str | os.PathLike[str]

    def __post_init__(self) -> None:
        self.path = os.fspath(self.path)

    @property
    def name(self) -> str:
        """The path, as it was given."""
        return str(self.path)

    @property
    def file(self) -> Path:
        """The path as an object."""
        return Path(self.path)

    def check(self) -> None:
        """Raise ``SourceError`` unless the file is there and may be read."""
        check_file(self.file)

    @abstractmethod
    def read(self) -> Rows:
        """Yield a record or a failure for each row."""

    def known_fields(self) -> FieldSet:
        """Return the fields of the first hundred good rows."""
        return peek_fields(self.read())


@dataclass
class LineSource(FileSource):
    """A source of which each line that is not blank is one row."""

    max_line_bytes: int = field(default=MAX_LINE_BYTES, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_line_bytes < 1:
            raise PlanError(
                f"{type(self).__name__}({str(self.path)!r}): max_line_bytes="
                f"{self.max_line_bytes} must be at least 1"
            )

    @abstractmethod
    def parse(self, line: bytes, position: Position) -> SourceItem:
        """Return the record of one line, or raise ``RowError``."""

    def size(self) -> int | None:
        """Return how many lines are not blank; None where counting them would take a while."""
        if self.file.suffix in PACKED or self.file.stat().st_size > _COUNTED_BYTES:
            return None
        with closing(read_lines(self.file, self.max_line_bytes)) as lines:
            return sum(1 for _, line in lines if line.strip())

    def failed_id(self, position: Position) -> str:
        """Return what a row is called whose own id can not be had."""
        return f"line-{position.line}"

    def read(self) -> Rows:
        """Yield a record or a failure for each line."""
        item: SourceItem | Failure
        for position, line in read_lines(self.file, self.max_line_bytes):
            if not line.strip():
                continue
            try:
                item = self.parse(line, position)
            except RowError as error:
                item = row_failure(error, self.failed_id(position), position, line)
            yield item


def peek_fields(rows: Rows) -> FieldSet:
    """Return the union of the first rows' fields; closed where all of them have the same."""
    with closing(rows):
        good = (row for row in islice(rows, _PEEK_ROWS) if isinstance(row, SourceItem))
        seen = {frozenset(row.record) for row in islice(good, PEEK_RECORDS)}
    return FieldSet(frozenset().union(*seen), is_open=len(seen) != 1)


def declared_fields(names: Sequence[str]) -> FieldSet:
    """Return fields that the user vouches for; records may carry more."""
    return FieldSet(frozenset(names), is_open=True)
