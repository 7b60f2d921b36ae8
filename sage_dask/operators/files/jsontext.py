"""Records as JSON text: one line each, strict JSON, nothing turned into something else unsaid.

Numpy numbers become numbers and arrays lists; dates and times become ISO 8601
texts and decimals texts, because columnar files bring them.  Whatever else JSON
has no form for (bytes, sets, NaN, objects) is refused by the name of its field.
"""

from __future__ import annotations

import datetime
import decimal
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from sage_dask.record import Record


def _plain(value: Any) -> Any:
    """Return a value that JSON can hold for one it does not know."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, decimal.Decimal):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no form in JSON")


_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, default=_plain).encode
_encode_ascii = json.JSONEncoder(allow_nan=False, default=_plain).encode

# What the encoder raises: unknown types and keys, NaN and cycles, and nesting past the stack.
_ENCODE_ERRORS = (TypeError, ValueError, RecursionError)


def to_json(value: Any) -> str:
    """Return a value as JSON text on one line.

    Raises:
        TypeError, ValueError, RecursionError: JSON has no form for it.
    """
    return _encode(value)


def json_line(record: Record) -> bytes:
    """Return a record as one line of UTF-8 JSON, line end included.

    Raises:
        ValueError: A field has no form in JSON; the message names it.
    """
    try:
        return (_encode(record) + "\n").encode()
    except UnicodeEncodeError:
        # Half of a surrogate pair has no UTF-8 form, but JSON can spell it.
        return (_encode_ascii(record) + "\n").encode()
    except _ENCODE_ERRORS as error:
        raise ValueError(_unwritable(record, error)) from error


def json_line_of_anything(record: Record) -> bytes:
    """Return a record as a JSON line, with ``repr`` for what JSON can not hold.

    For the failed file, which must take the very records that could not be written.
    """
    try:
        return json_line(record)
    except ValueError:
        return json_line({str(name): _lenient(value) for name, value in record.items()})


def with_id(record_id: str, record: Record) -> Record:
    """Return a record that has a field ``id``, first where it was not there."""
    return record if "id" in record else {"id": record_id, **record}


def _unwritable(record: Mapping[Any, Any], error: Exception) -> str:
    """Say which field is at fault: the first that can not be encoded by itself."""
    for name, value in record.items():
        try:
            _encode({name: value})
        except _ENCODE_ERRORS as reason:
            return (
                f"field {name!r} ({type(value).__name__}) can not be written as JSON: {reason}; "
                "change it in a .map(), or leave it out with Select(...)"
            )
    return f"the record can not be written as JSON: {error}"


def _lenient(value: Any) -> Any:
    try:
        _encode(value)
    except _ENCODE_ERRORS:
        if isinstance(value, Mapping):
            try:
                return {str(name): _lenient(item) for name, item in value.items()}
            except RecursionError:
                return "<nested too deep to be written>"
        return _shown(value)
    return value


def _shown(value: Any) -> str:
    try:
        return repr(value)
    except Exception as error:
        return f"<{type(value).__name__} whose repr raises {type(error).__name__}>"
