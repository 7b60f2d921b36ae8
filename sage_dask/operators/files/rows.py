"""Rows as they stand in a file: their ids, and what may be wrong with one of them.

A row that can not be used becomes a ``Failure`` in the stream and reading goes
on.  The class of the error says which kind of fault it is, so that a failed
file can be counted by it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sage_dask.errors import did_you_mean, listed
from sage_dask.record import Failure, Position

# What a failure shows of the raw row: enough to find it, little enough to print.
EXCERPT_CHARS = 200

# Longer rows are faults.  Prompts with whole documents stay far below; a file that is
# not made of lines at all is found before it fills the memory.
MAX_LINE_BYTES = 16 << 20


class RowError(ValueError):
    """One row can not be used; the message says why."""


class NotUtf8Error(RowError):
    """The row's bytes are not UTF-8."""


class NulByteError(RowError):
    """The row holds a NUL byte, as rows do that a crash left unwritten."""


class RowTooLongError(RowError):
    """The row is over the limit of bytes."""


class BadRowError(RowError):
    """The row has not the form that its format asks for."""


class BadIdError(RowError):
    """The row has no id, or one that is neither text nor a whole number."""


class CutLine(bytes):
    """The first bytes of a line that is over the limit; the rest was skipped unread."""


def decode(line: bytes, max_bytes: int) -> str:
    """Return a line as text.

    Raises:
        RowError: The line was cut, holds a NUL byte, or is not UTF-8.
    """
    if type(line) is CutLine:
        raise RowTooLongError(
            f"the row is longer than {max_bytes} bytes; raise max_line_bytes, or mend the file "
            "if it lost its line ends"
        )
    if b"\0" in line:
        raise NulByteError(
            f"the row holds a NUL byte at byte {line.index(0) + 1}; the file may have been cut "
            "by a crash, or not be UTF-8 text"
        )
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        raise NotUtf8Error(
            f"the row is not UTF-8: byte 0x{line[error.start]:02x} at byte {error.start + 1} "
            f"({error.reason}); save the file as UTF-8"
        ) from error


def row_id(row: Mapping[str, Any], field: str) -> str:
    """Return the id that a row carries in ``field``; an int becomes its decimal digits.

    Raises:
        BadIdError: The field is missing, empty, or neither str nor int.
    """
    value = row.get(field)
    if type(value) is str and value and _has_utf8(value):
        return value
    if type(value) is int:
        return str(value)
    if field not in row:
        known = [str(name) for name in row]
        raise BadIdError(
            f"the row has no field {field!r} to take its id from, only {listed(known)}"
            f"{did_you_mean(field, known)}"
        )
    found = f"{value!r}" if isinstance(value, str) else type(value).__name__
    raise BadIdError(
        f"the id in field {field!r} is {found}; it must be a whole number, or a text that is "
        "not empty and can be written as UTF-8"
    )


def _has_utf8(text: str) -> bool:
    """Tell whether the text is free of halves of surrogate pairs, which JSON can spell."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def excerpt(raw: bytes | str) -> str:
    """Return the beginning of a row with everything unprintable escaped."""
    if isinstance(raw, bytes):
        raw = raw[:EXCERPT_CHARS].decode("utf-8", "backslashreplace")
    printable = (
        char if char.isprintable() else char.encode("unicode_escape").decode()
        for char in raw[:EXCERPT_CHARS].rstrip("\r\n")
    )
    return "".join(printable)[:EXCERPT_CHARS]


def row_failure(error: Exception, record_id: str, position: Position, raw: bytes | str) -> Failure:
    """Return the failure that takes the place of an unusable row."""
    return Failure(
        id=record_id,
        stage="read",
        error=type(error).__name__,
        message=str(error),
        record={"raw": excerpt(raw)},
        position=position,
    )
