"""CSV: a header, then one row per record, cells quoted as RFC 4180 has it.

Every cell is text when it is read.  When written, what is no text stands as
JSON, and None and a missing field both stand as an empty cell.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

from sage_dask.errors import PlanError, SourceError, did_you_mean, listed
from sage_dask.operators.files.csvrows import CsvRows
from sage_dask.operators.files.jsontext import to_json, with_id
from sage_dask.operators.files.rows import MAX_LINE_BYTES, RowError, row_failure, row_id
from sage_dask.operators.files.sink import RowSink
from sage_dask.operators.files.source import FileSource, Rows, declared_fields
from sage_dask.record import Failure, Record, SourceItem
from sage_dask.stage import FieldSet


@dataclass
class ReadCsv(FileSource):
    """Read a CSV file with a header; ``.gz`` and ``.zst`` are unpacked on the way.

    Args:
        path: The file.
        id: Column that holds each row's id; it stays in the record.  None numbers the
            rows below the header from 1.
        fields: Fields that every row is known to carry; None takes the header's.
        delimiter: The character between two cells.
        max_line_bytes: A longer row is a failed row, however many lines it has.
    """

    id: str | None = None
    fields: Sequence[str] | None = None
    delimiter: str = ","
    max_line_bytes: int = field(default=MAX_LINE_BYTES, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_delimiter(self.delimiter, self)

    def check(self) -> None:
        """Raise ``SourceError`` unless the file has a usable header with the id's column."""
        super().check()
        with closing(self._open()) as rows:
            self._header(rows)

    def known_fields(self) -> FieldSet:
        """Return the declared fields, or the header's."""
        if self.fields is not None:
            return declared_fields(self.fields)
        with closing(self._open()) as rows:
            header = self._header(rows)
        return FieldSet(frozenset(header), is_open=not header)

    def read(self) -> Rows:
        """Yield a record or a failure for each row below the header."""
        with closing(self._open()) as rows:
            header = self._header(rows)
            rows.width = len(header)
            number = 0
            while True:
                number += 1
                item: SourceItem | Failure
                try:
                    row = dict(zip(header, next(rows), strict=True))
                    identity = str(number) if self.id is None else row_id(row, self.id)
                    item = SourceItem(identity, row, rows.position)
                except StopIteration:
                    return
                except RowError as error:
                    name = str(number) if self.id is None else f"line-{rows.position.line}"
                    item = row_failure(error, name, rows.position, rows.raw)
                yield item

    def _open(self) -> CsvRows:
        return CsvRows(self.file, self.delimiter, self.max_line_bytes)

    def _header(self, rows: CsvRows) -> list[str]:
        """Return the column names; none for an empty file."""
        try:
            header = next(rows, [])
        except RowError as error:
            raise SourceError(
                f"input {self.name!r} has a header that is broken: {error}"
            ) from error
        twice = {name for name in header if header.count(name) > 1}
        if twice:
            raise SourceError(
                f"input {self.name!r} has more than one column called {listed(twice)}, so cells "
                "would get lost; give each column its own name"
            )
        if header and self.id is not None and self.id not in header:
            raise SourceError(
                f"input {self.name!r} has no column {self.id!r} to take ids from, only "
                f"{listed(header)}{did_you_mean(self.id, header)}; name one of them, or check "
                f"that the delimiter is {self.delimiter!r}"
            )
        return header


@dataclass
class WriteCsv(RowSink):
    """Write each record as a row of CSV, below a header; ``.gz`` and ``.zst`` are packed.

    Without ``columns`` they are the fields of all records in the first ``write``,
    in the order in which they appear.  A later record with a field that is no
    column goes to the failed file rather than lose it.

    Args:
        path: The file; it appears when the run is done, and is ``<path>.partial`` until then.
        columns: Exactly the fields to write; others are left out, as asked for.
        delimiter: The character between two cells.
    """

    columns: Sequence[str] | None = None
    delimiter: str = ","
    _header: list[str] | None = field(init=False, repr=False, compare=False, default=None)
    _header_due: bool = field(init=False, repr=False, compare=False, default=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_delimiter(self.delimiter, self)

    @property
    def reads(self) -> Sequence[str]:
        """The columns, where they are given; an id is added where there is none."""
        return [name for name in self.columns or () if name != "id"]

    def open(self) -> None:
        """Make the partial."""
        super().open()
        self._header = list(self.columns) if self.columns is not None else None
        self._header_due = True

    def write(self, ids: Sequence[str], records: Sequence[Record]) -> Sequence[Failure]:
        """Write records; the first of them make the header."""
        if self._header is None and records:
            rows = map(with_id, ids, records)
            self._header = list(dict.fromkeys(str(name) for row in rows for name in row))
        return super().write(ids, records)

    def encode(self, record_id: str, record: Record) -> bytes:
        """Return the record as a row; the first brings the header along."""
        row = with_id(record_id, record)
        header = self._header or []
        extra = row.keys() - set(header) if self.columns is None else ()
        if extra:
            raise ValueError(
                f"{listed(map(str, extra))} is no column of {self.name!r} ({listed(header)}), "
                "which the first records made; give WriteCsv(columns=[...]), or write JSON lines"
            )
        line = self._line([_cell(name, row.get(name)) for name in header])
        if self._header_due:
            line = self._line(header) + line
            self._header_due = False
        return line

    def _line(self, cells: Sequence[str]) -> bytes:
        text = io.StringIO(newline="")
        # The writer quotes cells with a line end only if its own end has that character.
        csv.writer(text, delimiter=self.delimiter, lineterminator="\r\n").writerow(cells)
        return (text.getvalue().removesuffix("\r\n") + "\n").encode()


def _cell(name: str, value: Any) -> str:
    """Return what stands in a cell, or raise ``ValueError``."""
    if value is None:
        return ""
    try:
        text = value if isinstance(value, str) else to_json(value)
        text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(
            f"field {name!r} ({type(value).__name__}) can not be written as a cell: {error}; "
            "change it in a .map(), or leave it out with Select(...)"
        ) from error
    if "\0" in text:
        raise ValueError(f"field {name!r} holds a NUL, which no CSV reader takes; remove it")
    return text


def _check_delimiter(delimiter: str, owner: ReadCsv | WriteCsv) -> None:
    if len(delimiter) != 1 or delimiter in '"\r\n':
        raise PlanError(
            f"{type(owner).__name__}({owner.name!r}): delimiter={delimiter!r} must be one "
            "character, and neither a quote nor a line end; tabs are '\\t'"
        )
