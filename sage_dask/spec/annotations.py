"""Whether a plain value fits a parameter's annotation, and what would.

Only annotations that plain values can have are judged: texts, numbers,
booleans, null, lists, mappings and functions.  Anything else is left to the
class itself.
"""

from __future__ import annotations

import os
from collections import abc
from pathlib import PurePath
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

_LISTS = {list, tuple, set, frozenset, abc.Sequence, abc.Iterable, abc.Collection, abc.Set}
_MAPPINGS = {dict, abc.Mapping, abc.MutableMapping}
_UNIONS = {Union, UnionType}

_WORDS = {
    str: "a text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    NoneType: "null",
    list: "a list",
    dict: "a mapping",
    abc.Callable: "a function",
}


def hints_of(cls: type) -> dict[str, Any]:
    """Return a class's annotations as objects; none where they name what can not be found."""
    try:
        return get_type_hints(cls)
    except Exception:
        # Names imported for type checkers alone, or a misspelt one: nothing can be judged.
        return {}


def fits(value: Any, hint: Any) -> bool:
    """Tell whether a plain value may stand where ``hint`` is annotated."""
    if is_union(hint):
        return any(fits(value, option) for option in get_args(hint))
    if get_origin(hint) is Literal:
        return any(value == option and type(value) is type(option) for option in get_args(hint))
    if get_origin(hint) is Annotated:
        return fits(value, get_args(hint)[0])
    return _fits_kind(value, _kind(hint), get_args(hint))


def wanted(hint: Any) -> str:
    """Return in words what fits an annotation."""
    if is_union(hint):
        return " or ".join(dict.fromkeys(wanted(option) for option in get_args(hint)))
    if get_origin(hint) is Literal:
        return " or ".join(repr(option) for option in get_args(hint))
    if get_origin(hint) is Annotated:
        return wanted(get_args(hint)[0])
    kind, arguments = _kind(hint), get_args(hint)
    if kind is list and arguments and arguments[0] is not Any:
        return f"a list, each item {wanted(arguments[0])}"
    return _WORDS.get(kind, getattr(kind, "__name__", str(kind)))


def is_union(hint: Any) -> bool:
    """Tell whether an annotation names several that would do."""
    return get_origin(hint) in _UNIONS


def item_hint(hint: Any) -> Any:
    """Return what the items of a list, or the values of a mapping, are annotated with."""
    return _item(_kind(hint), get_args(hint))


def _kind(hint: Any) -> Any:
    """Return the one type that stands for all annotations which take the same plain values."""
    kind = NoneType if hint is None else get_origin(hint) or hint
    if kind in _LISTS:
        return list
    if kind in _MAPPINGS:
        return dict
    if isinstance(kind, type) and (kind is os.PathLike or issubclass(kind, PurePath)):
        return str
    return kind


def _item(kind: Any, arguments: tuple[Any, ...]) -> Any:
    if kind is list and arguments:
        return arguments[0]
    return arguments[1] if kind is dict and len(arguments) == 2 else Any


def _fits_kind(value: Any, kind: Any, arguments: tuple[Any, ...]) -> bool:
    if kind is float:
        return type(value) in (int, float)
    if kind is list:
        item = _item(kind, arguments)
        return isinstance(value, list) and all(fits(each, item) for each in value)
    if kind is dict:
        item = _item(kind, arguments)
        return isinstance(value, dict) and all(fits(each, item) for each in value.values())
    if kind is abc.Callable:
        return callable(value)
    return type(value) is kind if kind in _WORDS else True
