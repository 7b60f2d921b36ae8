"""JSON lines: one JSON object per line, in UTF-8."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

from sage_dask.operators.files.jsontext import json_line, with_id
from sage_dask.operators.files.rows import BadRowError, decode, row_id
from sage_dask.operators.files.sink import RowSink
from sage_dask.operators.files.source import LineSource, declared_fields
from sage_dask.record import Position, Record, SourceItem
from sage_dask.stage import FieldSet


def _refuse_constant(name: str) -> NoReturn:
    raise BadRowError(f"the row holds {name}, which is not JSON; write null instead")


_decode_json = json.JSONDecoder(parse_constant=_refuse_constant).decode


@dataclass
class ReadJsonl(LineSource):
    """Read a file of JSON lines; ``.gz`` and ``.zst`` are unpacked on the way.

    Args:
        path: The file.
        id: Field that holds each row's id, a text or a whole number; it stays in the
            record.  None numbers the lines from 1.
        fields: Fields that every row is known to carry; None looks at the first
            hundred rows.
        max_line_bytes: A longer line is a failed row.
    """

    id: str | None = None
    fields: Sequence[str] | None = None

    def known_fields(self) -> FieldSet:
        """Return the declared fields, or those of the first rows."""
        if self.fields is not None:
            return declared_fields(self.fields)
        return super().known_fields()

    def failed_id(self, position: Position) -> str:
        """Return the line's number where that is the id; otherwise a name made of it."""
        return str(position.line) if self.id is None else super().failed_id(position)

    def parse(self, line: bytes, position: Position) -> SourceItem:
        """Return the object that the line holds."""
        row = json_object(decode(line, self.max_line_bytes))
        identity = str(position.line) if self.id is None else row_id(row, self.id)
        return SourceItem(identity, row, position)


@dataclass
class WriteJsonl(RowSink):
    """Write each record as one JSON line; ``.gz`` and ``.zst`` are packed on the way.

    A record without a field ``id`` gets one, in front.  One that holds what JSON
    has no form for goes to the failed file.

    Args:
        path: The file; it appears when the run is done, and is ``<path>.partial`` until then.
    """

    def encode(self, record_id: str, record: Record) -> bytes:
        """Return the record as one line."""
        return json_line(with_id(record_id, record))


def json_object(text: str) -> Record:
    """Return the object that a line of JSON holds.

    Raises:
        BadRowError: The text is no JSON, or JSON of another kind.
    """
    try:
        row = _decode_json(text)
    except json.JSONDecodeError as error:
        raise BadRowError(f"broken JSON at column {error.colno}: {error.msg}") from error
    except BadRowError:
        raise
    except (ValueError, RecursionError) as error:
        # Numbers of thousands of digits and brackets nested past the stack.
        raise BadRowError(f"JSON that can not be held: {error}") from error
    if type(row) is not dict:
        raise BadRowError(
            f"the row is a JSON {_JSON_NAMES[type(row)]}, and an object is wanted: {{...}}"
        )
    return row


_JSON_NAMES = {
    list: "array",
    str: "string",
    int: "number",
    float: "number",
    bool: "boolean",
    type(None): "null",
}
