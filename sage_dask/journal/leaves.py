"""Values that MessagePack has no type for, and that hold no other values.

Each travels as an extension: a code that never changes its meaning, because it stands in
files, and a payload of plain MessagePack.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from enum import IntEnum
from typing import Any
from zoneinfo import ZoneInfo

import msgpack
import numpy as np


class Code(IntEnum):
    """What an extension stands for."""

    NAMELESS = 0
    """A value without encoding; in digests alone."""
    TUPLE = 1
    SET = 2
    FROZENSET = 3
    INT = 4
    BYTEARRAY = 5
    DATETIME = 6
    DATE = 7
    TIME = 8
    TIMEDELTA = 9
    DECIMAL = 10
    UUID = 11
    COMPLEX = 12
    NUMPY_TEXT = 13
    NUMPY_BYTES = 14
    ARRAY = 15
    SCALAR = 16


# Numbers, truth values, texts and times of fixed width: the dtypes whose bytes say all.
_DTYPE = re.compile(r"[<>|][?bBhHiIlLqQefdgFDG]|[<>|][SU]\d+|[<>][mM]8(\[\w+\])?")

_SCALAR_TYPES = {np.dtype(letter).type for letter in "?bBhHiIlLqQefdgFDGmM"}


def pack_leaf(value: Any) -> tuple[int, bytes]:
    """Return the code and the payload of a value.

    Raises:
        ValueError: It has none; the message says why.
    """
    known = _PARTS.get(type(value))
    if known is None:
        raise ValueError("there is no encoding for its type")
    code, parts = known
    packed: bytes = msgpack.packb(parts(value), unicode_errors="surrogatepass")
    return code, packed


def unpack_leaf(code: int, payload: bytes) -> Any:
    """Return the value of an extension.

    Raises:
        Exception: Of any kind, where the payload is not from ``pack_leaf``.
    """
    _, _, make = _LEAVES[Code(code)]
    return make(msgpack.unpackb(payload, unicode_errors="surrogatepass"))


def _int_bytes(value: int) -> bytes:
    return value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True)


def _zone_parts(zone: tzinfo | None) -> Any:
    """Return a time zone as plain values: its name, or its offset and what it is called."""
    if zone is None:
        return None
    if type(zone) is ZoneInfo and zone.key is not None:
        return zone.key
    if type(zone) is timezone:
        offset, *name = zone.__getinitargs__()  # type: ignore[attr-defined]
        return [_timedelta_parts(offset), *name]
    raise ValueError(f"its time zone is a {type(zone).__name__}, and not one of Python's own")


def _zone(parts: Any) -> tzinfo | None:
    if parts is None:
        return None
    if isinstance(parts, str):
        return ZoneInfo(parts)
    offset, *name = parts
    return timezone(timedelta(*offset), *name)


def _timedelta_parts(value: timedelta) -> Any:
    return value.days, value.seconds, value.microseconds


def _datetime_parts(value: datetime) -> list[Any]:
    return [value.year, value.month, value.day, *_time_parts(value)]


def _time_parts(value: time | datetime) -> list[Any]:
    clock = [value.hour, value.minute, value.second, value.microsecond]
    return [*clock, value.fold, _zone_parts(value.tzinfo)]


def _make_time(parts: list[Any]) -> time:
    hour, minute, second, microsecond, fold, zone = parts
    return time(hour, minute, second, microsecond, _zone(zone), fold=fold)


def _make_datetime(parts: list[Any]) -> datetime:
    year, month, day, *clock = parts
    return datetime.combine(date(year, month, day), _make_time(clock))


def _array_parts(value: np.ndarray[Any, Any] | np.generic) -> list[Any]:
    """Return name of the dtype, shape and bytes, in the order of C."""
    dtype = value.dtype
    # The letter tells apart what is one width on this machine, such as "long long".
    name = dtype.str if dtype.kind in "SUmM" else f"{dtype.str[0]}{dtype.char}"
    if not _DTYPE.fullmatch(name) or dtype.metadata:
        raise ValueError(f"its dtype, {dtype}, has no fixed bytes")
    return [name, value.shape, value.tobytes()]


def _make_array(parts: list[Any]) -> np.ndarray[Any, Any]:
    name, shape, data = parts
    if not _DTYPE.fullmatch(name):
        raise ValueError(f"{name!r} is not a dtype that a journal keeps")
    # A bytearray, since an array over bytes could not be written to.
    return np.ndarray(shape, name, bytearray(data))


def _make_scalar(parts: list[Any]) -> Any:
    return _make_array(parts)[()]


# Their own methods, because those of numpy drop NULs at the end.
def _numpy_text(value: np.str_) -> str:
    return str.__str__(value)


def _numpy_bytes(value: np.bytes_) -> bytes:
    return b"".join([value])


# Per code: the types it is for, what a value is taken apart into, and what makes it again.
_Leaf = tuple[tuple[type, ...], Callable[[Any], Any], Callable[[Any], Any]]
_LEAVES: dict[Code, _Leaf] = {
    Code.INT: ((int,), _int_bytes, lambda data: int.from_bytes(data, "big", signed=True)),
    Code.BYTEARRAY: ((bytearray,), bytes, bytearray),
    Code.DATETIME: ((datetime,), _datetime_parts, _make_datetime),
    Code.DATE: ((date,), lambda day: [day.year, day.month, day.day], lambda parts: date(*parts)),
    Code.TIME: ((time,), _time_parts, _make_time),
    Code.TIMEDELTA: ((timedelta,), _timedelta_parts, lambda parts: timedelta(*parts)),
    Code.DECIMAL: ((Decimal,), str, Decimal),
    Code.UUID: ((uuid.UUID,), lambda value: value.bytes, lambda data: uuid.UUID(bytes=data)),
    Code.COMPLEX: ((complex,), lambda value: [value.real, value.imag], lambda p: complex(*p)),
    Code.NUMPY_TEXT: ((np.str_,), _numpy_text, np.str_),
    Code.NUMPY_BYTES: ((np.bytes_,), _numpy_bytes, np.bytes_),
    Code.ARRAY: ((np.ndarray,), _array_parts, _make_array),
    Code.SCALAR: (tuple(_SCALAR_TYPES), _array_parts, _make_scalar),
}
_PARTS = {kind: (code, parts) for code, (kinds, parts, _) in _LEAVES.items() for kind in kinds}
