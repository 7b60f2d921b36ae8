"""Parquet files, a batch of rows at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sage_dask.errors import SourceError, did_you_mean, listed
from sage_dask.extras import require
from sage_dask.operators.files.jsontext import with_id
from sage_dask.operators.files.parquetpartial import ParquetPartial
from sage_dask.operators.files.rows import RowError, row_failure, row_id
from sage_dask.operators.files.sink import FileSink, opened, write_failure
from sage_dask.operators.files.source import FileSource, Rows
from sage_dask.operators.files.textfile import check_file
from sage_dask.record import Failure, Position, Record, SourceItem
from sage_dask.stage import FieldSet

# Rows turned into Python objects at a time: enough to make the call cheap, few enough
# to keep rows with whole documents in bounds.
_ROWS_AT_A_TIME = 256


@dataclass
class ReadParquet(FileSource):
    """Read a Parquet file; needs the extra ``io``.

    Args:
        path: The file.
        id: Column that holds each row's id, a text or a whole number; it stays in the
            record.  None numbers the rows from 1.
        columns: Columns to read, the id's always among them; None reads all.
    """

    id: str | None = None
    columns: Sequence[str] | None = None

    def check(self) -> None:
        """Raise ``SourceError`` unless the file is Parquet and has the columns asked for."""
        with self._open() as file:
            self._columns(file)

    def known_fields(self) -> FieldSet:
        """Return the columns that are read."""
        with self._open() as file:
            return FieldSet(frozenset(self._columns(file)), is_open=False)

    def size(self) -> int | None:
        """Return the number of rows, which the file's footer tells."""
        with self._open() as file:
            return int(file.metadata.num_rows)

    def read(self) -> Rows:
        """Yield a record, or a failure, for each row."""
        with self._open() as file:
            for number, row in enumerate(self._rows(file), 1):
                yield self._item(row, number)

    def _item(self, row: Record, number: int) -> SourceItem | Failure:
        position = Position(number)
        try:
            identity = str(number) if self.id is None else row_id(row, self.id)
            return SourceItem(identity, row, position)
        except RowError as error:
            return row_failure(error, f"line-{number}", position, repr(row))

    def _rows(self, file: Any) -> Iterator[Record]:
        number = 0
        try:
            batches = file.iter_batches(_ROWS_AT_A_TIME, columns=self._columns(file))
            for batch in batches:
                rows = batch.to_pylist()
                yield from rows
                number += len(rows)
        except (OSError, ValueError) as error:
            raise SourceError(
                f"input {self.name!r} breaks off after row {number}: {error}; get the file again"
            ) from error

    def _open(self) -> Any:
        check_file(self.file)
        parquet = require("pyarrow.parquet", extra="io", needed_by=f"reading {self.file.name!r}")
        try:
            # Without its checksums a page with a flipped bit is read as if nothing were wrong.
            return parquet.ParquetFile(self.file, page_checksum_verification=True)
        except (OSError, ValueError) as error:
            raise SourceError(
                f"input {self.name!r} is no Parquet file: {error}; check the path, or read it "
                "with ReadJsonl or ReadCsv"
            ) from error

    def _columns(self, file: Any) -> list[str]:
        """Return the columns to read; pyarrow passes over unknown ones in silence."""
        known = list(file.schema_arrow.names)
        wanted = known if self.columns is None else list(self.columns)
        if self.id is not None and self.id not in wanted:
            wanted = [self.id, *wanted]
        for name in wanted:
            if name not in known:
                raise SourceError(
                    f"input {self.name!r} has no column {name!r}, only {listed(known)}"
                    f"{did_you_mean(name, known)}"
                )
        twice = {name for name in wanted if known.count(name) > 1}
        if twice:
            raise SourceError(
                f"input {self.name!r} has more than one column called {listed(twice)}, so values "
                "would get lost; give each column its own name, or choose others with columns=[...]"
            )
        return wanted


@dataclass
class WriteParquet(FileSink[ParquetPartial]):
    """Write records as rows of a Parquet file; needs the extra ``io``.

    The schema is what the first 8192 rows (or 64 MiB) have in common; a later
    record that does not fit goes to the failed file.  A Parquet file is only
    readable once it is closed: rows of a run that is killed, or that meets a full
    disk, are not in the partial.

    Args:
        path: The file; it appears when the run is done, and is ``<path>.partial`` until then.
    """

    def make_output(self) -> ParquetPartial:
        """Open the partial."""
        return ParquetPartial(self.file)

    def write(self, ids: Sequence[str], records: Sequence[Record]) -> Sequence[Failure]:
        """Write records, and return a failure for each that has no form in this file.

        Raises:
            SinkError: The disk refused.
        """
        rows = [with_id(*pair) for pair in zip(ids, records, strict=True)]
        return _write_fitting(opened(self._output, self), ids, rows)


def _write_fitting(
    output: ParquetPartial, ids: Sequence[str], rows: Sequence[Record]
) -> list[Failure]:
    """Write the rows that fit, halving until those are found that do not."""
    if not rows:
        return []
    try:
        output.write(rows)
    except ValueError as error:
        if len(rows) == 1:
            return [write_failure(ids[0], error)]
        middle = len(rows) // 2
        return _write_fitting(output, ids[:middle], rows[:middle]) + _write_fitting(
            output, ids[middle:], rows[middle:]
        )
    return []
