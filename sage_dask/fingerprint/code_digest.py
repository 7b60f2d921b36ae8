"""What code does, in sixteen characters that are the same in every process.

A digest is made of the instructions and the values in them.  Line numbers, file
paths, docstrings, annotations and the names of local variables are left out, so
that a function that moved is the same one.  Instructions belong to a version of
Python: digests of two versions have nothing to say about each other.
"""

from __future__ import annotations

import dis
import functools
import hashlib
import json
import sys
from collections.abc import Iterator
from types import CodeType, FunctionType
from typing import Any

_DIGEST_CHARS = 16
# The one widens the argument that follows, the other keeps a line number of its own.
_EMPTY = ("EXTENDED_ARG", "NOP")
_OWN_PACKAGE = __name__.partition(".")[0]


def python_version() -> str:
    """Return the version of Python whose instructions digests are made of, such as ``3.11``."""
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def digest(data: object) -> str:
    """Return a short digest of bytes, or of JSON-able data; the order of keys does not count."""
    if not isinstance(data, bytes):
        data = json.dumps(data, sort_keys=True, separators=(",", ":")).encode()
    return hashlib.sha256(data).hexdigest()[:_DIGEST_CHARS]


def function_code(function: FunctionType) -> list[Any]:
    """Return what a function does as JSON-able data; empty for one of Python's own or of ours.

    A new release of those is no change of the pipeline that uses them.
    """
    return [] if is_given(function.__module__) else _told(function.__code__)


def class_code(kind: type) -> list[Any]:
    """Return what the methods of a class do, those it inherits within its package included.

    A base class from another package is a library's, and told by its name alone.
    """
    if is_given(kind.__module__):
        return []
    root = _package(kind.__module__)
    bases = [base for base in kind.__mro__ if _package(base.__module__) == root]
    return [_told_methods(base) for base in bases]


def is_given(module: str | None) -> bool:
    """Tell whether a module comes with Python or with this package."""
    package = _package(module or "")
    return package == _OWN_PACKAGE or package in sys.stdlib_module_names


def _told(code: CodeType) -> list[Any]:
    steps = [
        [step.opname, _argument(code, step)]
        for step in dis.get_instructions(code)
        if step.opname not in _EMPTY
    ]
    # What a try covers is no instruction of its own.
    return [steps, code.co_exceptiontable.hex()]


def _told_methods(kind: type) -> list[Any]:
    return [
        [name, *(_told(function.__code__) for function in _functions(value))]
        for name, value in sorted(vars(kind).items())
        # dataclass and Protocol write the other special methods, each Python in its own way.
        if name == "__call__" or not name.startswith("__")
    ]


def _functions(member: object) -> Iterator[FunctionType]:
    """Yield the functions that a member of a class is made of."""
    if isinstance(member, FunctionType):
        yield member
    elif isinstance(member, staticmethod | classmethod):
        yield from _functions(member.__func__)
    elif isinstance(member, functools.cached_property):
        yield from _functions(member.func)
    elif isinstance(member, property):
        yield from _functions(member.fget)


def _argument(code: CodeType, step: dis.Instruction) -> Any:
    if step.arg is None:
        return None
    if step.opcode in dis.hasconst:
        return _constant(code.co_consts[step.arg])
    # By number where it is a local variable, which may be renamed.
    return step.argval if step.opcode in dis.hasname else step.arg


def _constant(value: object) -> Any:
    if isinstance(value, CodeType):
        return _told(value)
    if isinstance(value, tuple):
        return [_constant(item) for item in value]
    if isinstance(value, frozenset):
        # Their order changes with PYTHONHASHSEED.
        return ["set", *sorted((_constant(item) for item in value), key=json.dumps)]
    # The text tells 1 from 1.0 and from "1", and nothing in instructions has an address.
    return repr(value)


def _package(module: str) -> str:
    return module.partition(".")[0]
