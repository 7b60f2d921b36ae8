"""Values of any kind as plain data that says whether two of them are the same.

Equal values give equal data in every process.  What can not be described
reliably (an open file, a model, a lock) is told by its class alone: a
difference that is none would stop a run, and the one that is missed changes an
exotic value.  For the same reason private attributes are left out, which hold
what was made on the way.
"""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import fractions
import json
import math
import re
import uuid
from collections.abc import Callable, Mapping
from pathlib import PurePath
from types import ModuleType
from typing import Any

import numpy as np

from sage_dask.fingerprint import callables
from sage_dask.fingerprint.callables import KIND, Describe, Plain, is_secret, told
from sage_dask.fingerprint.code_digest import class_code, digest

# Longer ones are told by their beginning and a digest: a run folder keeps every description.
_MOST_CHARS = 2000
_BEGINNING_CHARS = 40
_MOST_VALUES = 500
# Deeper than anybody nests settings, and far from Python's own limit.
_DEEPEST = 24

_URL_CREDENTIALS = re.compile(r"(?<=://)[^/\s@]+@")


def plain(value: object) -> Plain:
    """Return JSON-able data that is equal for equal values, and shows no secret.

    Functions are told by name and a digest of code, defaults and closure; dataclasses and what
    can be called by class and attributes; other objects by class.  Of the functions and
    global values that a function uses, only the names count.  An attribute or a key whose name
    says that it holds a secret (``api_key``, ``password``) is left out.
    """
    return _Walk().of(value)


def attributes(thing: object) -> dict[str, Any]:
    """Return what an object was configured with, by name; secrets are left out.

    For a dataclass these are the fields that ``__init__`` takes and ``==`` looks at, for others
    the public attributes.
    """
    if dataclasses.is_dataclass(thing):
        names = [item.name for item in dataclasses.fields(thing) if item.init and item.compare]
    else:
        names = [name for name in getattr(thing, "__dict__", {}) if not name.startswith("_")]
    return {name: getattr(thing, name) for name in names if not is_secret(name)}


def hidden(thing: object) -> frozenset[str]:
    """Return the names of the attributes that a dataclass keeps out of its ``repr``."""
    if not dataclasses.is_dataclass(thing):
        return frozenset()
    return frozenset(item.name for item in dataclasses.fields(thing) if not item.repr)


def covered(described: Plain) -> Plain:
    """Return what tells a description from others without showing it."""
    return told("hidden", str, digest=digest(described))


class _Walk:
    """One value and all that is in it; what was described once is not walked again."""

    def __init__(self) -> None:
        # Objects are kept beside their descriptions, or another one might get their id.
        self._done: dict[int, tuple[object, Plain]] = {}
        self._open: set[int] = set()

    def of(self, value: object) -> Plain:
        """Return the description of a value, which may hold itself."""
        place = id(value)
        if place in self._done:
            return self._done[place][1]
        if place in self._open or len(self._open) >= _DEEPEST:
            return told("instance", type(value))
        self._open.add(place)
        try:
            described = _short(self._described(value), type(value))
        except Exception:
            # Other people's objects may raise at any look; their class does not.
            described = told("instance", type(value))
        self._open.discard(place)
        self._done[place] = (value, described)
        return described

    def _described(self, value: Any) -> Plain:
        for kinds, describe in _WAYS:
            if isinstance(value, kinds):
                return describe(self.of, value)
        is_called = callable(value)
        if not is_called and not dataclasses.is_dataclass(value):
            return told("instance", type(value))
        settings = {name: self.of(each) for name, each in attributes(value).items()}
        settings |= {name: covered(settings[name]) for name in hidden(value) & settings.keys()}
        code = class_code(type(value)) if is_called else []
        return told("object", type(value), code=digest(code) if code else "", settings=settings)


def _text(_: Describe, value: str) -> Plain:
    text = _URL_CREDENTIALS.sub("", str(value))
    if len(text) <= _MOST_CHARS:
        return text
    beginning = text[:_BEGINNING_CHARS]
    return told("long", str, text=beginning, size=len(text), digest=digest(text))


def _float(_: Describe, value: float) -> Plain:
    # NaN equals nothing, not even itself once it was written down.
    return float(value) if math.isfinite(value) else told("value", float, text=repr(float(value)))


def _bytes(_: Describe, value: bytes | bytearray) -> Plain:
    return told("long", bytes, text="", size=len(value), digest=digest(bytes(value)))


def _array(of: Describe, value: np.ndarray[Any, Any]) -> Plain:
    if value.dtype.hasobject:
        return of(value.tolist())
    numbers = digest(np.ascontiguousarray(value).tobytes())
    shape = f"{value.dtype} {value.shape}"
    return told("long", np.ndarray, text=shape, size=value.size, digest=numbers)


def _mapping(of: Describe, value: Mapping[Any, Any]) -> Plain:
    shown = [key for key in value if not (isinstance(key, str) and is_secret(key))]
    return {_key(of, key): of(value[key]) for key in shown}


def _key(of: Describe, key: object) -> str:
    if type(key) is str and not key.startswith(KIND):
        return key
    # Of another kind, or it would be taken for one of ours.
    return KIND + _dumped(of(key))


def _sequence(of: Describe, value: list[Any] | tuple[Any, ...]) -> Plain:
    # A tuple is told as a list, which is what YAML makes of it.
    return [of(item) for item in value]


def _set(of: Describe, value: set[Any] | frozenset[Any]) -> Plain:
    return sorted((of(item) for item in value), key=_dumped)


def _short(described: Plain, kind: type) -> Plain:
    """Return a description, or where it holds too many values what tells it from others."""
    size = _num_values(described)
    if size <= _MOST_VALUES:
        return described
    return told("long", kind, text="", size=size, digest=digest(described))


def _num_values(described: Plain) -> int:
    if isinstance(described, dict):
        return sum(map(_num_values, described.values()))
    return sum(map(_num_values, described)) if isinstance(described, list) else 1


def _pattern(_: Describe, value: re.Pattern[Any]) -> Plain:
    # Its own repr is cut after 200 characters.
    return told("value", re.Pattern, text=f"{value.pattern!r} {value.flags}")


def _dumped(described: Plain) -> str:
    return json.dumps(described, sort_keys=True)


_LIKE_TEXT = (
    *(datetime.date, datetime.time, datetime.timedelta, datetime.tzinfo),
    *(decimal.Decimal, fractions.Fraction, uuid.UUID, complex, range),
)

# The first row that fits counts: a bool is an int, and so is the member of an IntEnum.
_WAYS: tuple[tuple[Any, Callable[[Describe, Any], Plain]], ...] = (
    ((bool, type(None)), lambda _, value: value),
    (enum.Enum, lambda _, value: told("value", type(value), text=str(value.name))),
    (str, _text),
    (int, lambda _, value: int(value)),
    (float, _float),
    ((bytes, bytearray), _bytes),
    (np.generic, lambda of, value: of(value.item())),
    (np.ndarray, _array),
    (PurePath, lambda of, value: of(str(value))),
    (Mapping, _mapping),
    ((list, tuple), _sequence),
    ((set, frozenset), _set),
    (_LIKE_TEXT, lambda _, value: told("value", type(value), text=repr(value))),
    (re.Pattern, _pattern),
    (type, lambda _, value: told("class", value)),
    (ModuleType, lambda _, value: told("value", ModuleType, text=value.__name__)),
    *callables.WAYS.items(),
)
