"""A Parquet file on its way: row groups under one schema that the first rows make.

While the first row group is still in memory, the schema widens with every row:
new fields, nested ones too, None to anything, whole numbers to floats.  Once it
is on disk the schema stands, and rows that do not fit are refused.
"""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from sage_dask.errors import SinkError
from sage_dask.extras import require
from sage_dask.operators.files.life import open_partial, partial_path, publish, sink_error, writing
from sage_dask.record import Record

# Rows and bytes of a row group: what is in memory, and what is lost when the process dies.
_GROUP_ROWS = 8192
_GROUP_BYTES = 64 << 20


class ParquetPartial:
    """Rows of ``target`` while they are written."""

    def __init__(self, target: Path) -> None:
        """Open the partial, empty.

        Raises:
            SinkError: It can not be opened.
            MissingDependencyError: pyarrow is not installed.
        """
        self.target = target
        self.path = partial_path(target)
        self.num_records = 0
        self._arrow = require("pyarrow", extra="io", needed_by=f"writing {target.name!r}")
        self._parquet = require("pyarrow.parquet", extra="io", needed_by=f"writing {target.name!r}")
        self._schema: Any = self._arrow.schema([])
        self._pending: list[Any] = []
        self._pending_rows = 0
        self._pending_bytes = 0
        self._writer: Any = None
        self._file = io.BufferedRandom(open_partial(target))

    def write(self, rows: Sequence[Record]) -> None:
        """Append rows, all of them or none.

        Raises:
            ValueError: They do not fit the schema, or have no form in Parquet.
            SinkError: The disk refused.
        """
        try:
            table = self._fitted(rows)
        except (ValueError, TypeError, OverflowError, NotImplementedError) as error:
            raise ValueError(
                f"{error}; change the field in a .map(), or write JSON lines"
            ) from error
        self._pending.append(table)
        self._pending_rows += table.num_rows
        self._pending_bytes += table.nbytes
        if self._pending_rows >= _GROUP_ROWS or self._pending_bytes >= _GROUP_BYTES:
            self._end_group()

    def publish(self) -> None:
        """Write the footer, sync, and put the file in the target's place.

        Raises:
            SinkError: That failed; ``keep`` still works.
        """
        self._finish()
        with writing(self.target):
            publish(self.path, self.target)
            # Last, because it ends the lock, and the next run may take the partial's name.
            self._file.close()
        self.path = self.target

    def keep(self) -> int:
        """Leave a readable file if there is room for its footer; return how many rows it holds.

        A Parquet file without its footer can not be read, so a full disk may
        leave none of them.
        """
        if not self._file.closed:
            with suppress(SinkError):
                self._finish()
                self._file.close()
        return self.num_records

    def _fitted(self, rows: Sequence[Record]) -> Any:
        """Return rows as a table under the schema, which they may widen."""
        schema = self._widened(self._inferred(rows).schema)
        table = self._arrow.Table.from_pylist(list(rows), schema=schema)
        if schema != self._schema and self._pending:
            # Before any change to what is kept: these rows, too, may not fit the wider schema.
            earlier = [row for part in self._pending for row in part.to_pylist()]
            self._pending = [self._arrow.Table.from_pylist(earlier, schema=schema)]
        self._schema = schema
        return table

    def _inferred(self, rows: Sequence[Record]) -> Any:
        """Return a table of all the rows' fields; pyarrow itself looks at the first row's only."""
        names = dict.fromkeys(name for row in rows for name in row)
        return self._arrow.table(
            {name: self._column(name, [row.get(name) for row in rows]) for name in names}
        )

    def _column(self, name: str, values: Sequence[Any]) -> Any:
        if not isinstance(name, str):
            raise TypeError(f"field {name!r} has a name that is no text")
        try:
            return self._arrow.array(values)
        except (ValueError, TypeError, OverflowError, NotImplementedError) as error:
            raise ValueError(f"field {name!r} has no form in Parquet: {error}") from error

    def _widened(self, found: Any) -> Any:
        """Return the schema that fits what was written and what was found."""
        try:
            schema = self._arrow.unify_schemas([self._schema, found], promote_options="permissive")
        except (ValueError, TypeError) as error:
            raise ValueError(f"does not fit the rows before it: {error}") from error
        for column in schema:
            if self._has_empty_struct(column.type):
                raise ValueError(f"field {column.name!r} holds an empty mapping")
        if self._writer is not None and schema != self._schema:
            changed = [column.name for column in schema if column not in list(self._schema)]
            raise ValueError(
                f"fields {changed} do not fit the schema, which stands since the first "
                f"{self.num_records} rows were written"
            )
        return schema

    def _has_empty_struct(self, kind: Any) -> bool:
        """Tell whether a type holds a struct without fields, for which Parquet has no form."""
        if self._arrow.types.is_struct(kind) and kind.num_fields == 0:
            return True
        return any(self._has_empty_struct(kind.field(i).type) for i in range(kind.num_fields))

    def _end_group(self) -> None:
        """Write what is pending as one row group."""
        if not self._pending:
            return
        group = self._arrow.concat_tables(self._pending)
        try:
            self._open_writer()
            self._writer.write_table(group, row_group_size=group.num_rows)
            self._file.flush()
        except OSError as error:
            raise self._broken(error) from error
        self.num_records += self._pending_rows
        self._pending, self._pending_rows, self._pending_bytes = [], 0, 0

    def _open_writer(self) -> None:
        if self._writer is None:
            self._writer = self._parquet.ParquetWriter(
                # A reader can only tell a flipped bit where pages carry checksums.
                self._file,
                self._schema,
                compression="zstd",
                write_page_checksum=True,
            )

    def _finish(self) -> None:
        """Write what is pending and the footer, and sync."""
        self._end_group()
        try:
            self._open_writer()
            self._writer.close()
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise self._broken(error) from error

    def _broken(self, error: OSError) -> SinkError:
        """Give the file up: pyarrow can not go on after half a row group, nor write a footer."""
        self.num_records = 0
        if self._writer is not None:
            # Otherwise it tries to write the footer when it is collected, and warns.
            self._writer.is_open = False
        with suppress(OSError):
            self._file.close()
        return sink_error(
            self.target, error, "a Parquet file that could not be closed holds no readable record"
        )

    def __repr__(self) -> str:
        return f"<ParquetPartial {str(self.path)!r}: {self.num_records} records>"
