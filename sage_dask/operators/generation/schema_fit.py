"""Where a JSON value does not fit a JSON schema.

Checked are the keywords that generated schemas are made of: ``type``, ``enum``,
``const``, ``properties``, ``required``, ``additionalProperties``, ``items``,
``minItems``, ``maxItems``, ``minimum``, ``maximum``, ``minLength``,
``maxLength``, ``pattern``, ``anyOf`` and ``$ref`` within the schema; any other
is passed over.  Source of their meaning: JSON Schema, draft 2020-12.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from sage_dask.errors import listed

TYPES: dict[str, Callable[[Any], bool]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "number": lambda value: _is_number(value),
    "integer": lambda value: _is_number(value) and (isinstance(value, int) or value.is_integer()),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
}
"""The types of JSON, and how to know them; true is no number, and 1.0 is an integer."""

_SHOWN_CHARS = 80


def faults(value: Any, schema: Any, *, root: Mapping[str, Any], where: str = "$") -> Iterator[str]:
    """Yield what is wrong with a value, the outermost fault first; nothing if it fits.

    Args:
        value: What ``json.loads`` returned.
        schema: What it must look like: a mapping, or true or false.
        root: The schema that ``$ref`` looks into.
        where: What faults call the value, such as ``$.items[2]``.
    """
    if isinstance(schema, bool):
        if not schema:
            yield f"{where} must not be there"
        return
    if "$ref" in schema:
        yield from faults(value, part_of(root, schema["$ref"]), root=root, where=where)
    yield from _own_faults(value, schema, where)
    if "anyOf" in schema and not any(
        next(faults(value, option, root=root), None) is None for option in schema["anyOf"]
    ):
        yield f"{where} is {shown(value)}, which none of the schema's anyOf allows"
    for name, item, inner in _inside(value, schema):
        yield from faults(item, inner, root=root, where=where + name)


def part_of(root: Any, reference: str) -> Any:
    """Return the part of a schema that a reference such as ``#/$defs/Item`` names.

    Raises:
        LookupError: There is no such part.
    """
    part = root
    for name in reference.removeprefix("#").split("/")[1:]:
        part = part[name.replace("~1", "/").replace("~0", "~")]
    return part


def types_of(schema: Mapping[str, Any]) -> Sequence[str]:
    """Return the types that a schema allows; none where it does not say."""
    types: str | Sequence[str] = schema.get("type", ())
    return (types,) if isinstance(types, str) else types


def shown(value: Any) -> str:
    """Return a value as JSON, cut to what a message has room for."""
    text = json.dumps(value, ensure_ascii=False, default=repr)
    return text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}..."


def _inside(value: Any, schema: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Yield path, value and schema of each item that the schema says something of."""
    if isinstance(value, list) and "items" in schema:
        yield from ((f"[{place}]", item, schema["items"]) for place, item in enumerate(value))
    if isinstance(value, dict):
        known, others = schema.get("properties", {}), schema.get("additionalProperties", True)
        yield from ((f".{name}", item, known.get(name, others)) for name, item in value.items())


def _own_faults(value: Any, schema: Mapping[str, Any], where: str) -> Iterator[str]:
    """Yield what is wrong with a value itself, whatever is inside it."""
    types = types_of(schema)
    if types and not any(TYPES[name](value) for name in types):
        yield f"{where} is {shown(value)}, and {' or '.join(types)} is wanted"
        return
    options = [*schema.get("enum", ()), *([schema["const"]] if "const" in schema else [])]
    if options and not any(_is_same(value, option) for option in options):
        yield f"{where} is {shown(value)}, and one of {shown(options)} is wanted"
    if isinstance(value, dict):
        if missing := [name for name in schema.get("required", ()) if name not in value]:
            yield f"{where} lacks {listed(missing)}"
    elif isinstance(value, list):
        yield from _bound_faults(len(value), schema, "minItems", "maxItems", f"length of {where}")
    elif isinstance(value, str):
        yield from _bound_faults(len(value), schema, "minLength", "maxLength", f"length of {where}")
        if "pattern" in schema and not re.search(schema["pattern"], value):
            yield f"{where} is {shown(value)}, which does not match {schema['pattern']!r}"
    elif _is_number(value):
        yield from _bound_faults(value, schema, "minimum", "maximum", where)


def _bound_faults(
    number: float, schema: Mapping[str, Any], low: str, high: str, what: str
) -> Iterator[str]:
    if number < schema.get(low, number):
        yield f"{what} is {number}, and at least {schema[low]} is wanted"
    if number > schema.get(high, number):
        yield f"{what} is {number}, and at most {schema[high]} is wanted"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_same(left: Any, right: Any) -> bool:
    """Compare as JSON does: true is no 1, and 1.0 is."""
    return isinstance(left, bool) == isinstance(right, bool) and bool(left == right)
