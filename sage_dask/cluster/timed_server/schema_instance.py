"""A small value that a JSON schema accepts, for requests that ask for structured output.

What constrains by pattern, format or negation is not looked at.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

# Deeper than any schema that ends; one that requires itself does not.
_MOST_DEPTH = 32


def instance_text(schema: Any) -> str:
    """Return a small instance of a schema as compact JSON."""
    return json.dumps(_instance(schema, schema, 0), separators=(",", ":"))


def _instance(schema: Any, root: Any, depth: int) -> Any:
    """Return a value for a schema, or None where it gives no hint or never ends."""
    if not isinstance(schema, Mapping) or depth > _MOST_DEPTH:
        return None
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return schema["enum"][0]
    if "$ref" in schema:
        return _instance(_resolved(str(schema["$ref"]), root), root, depth + 1)
    for word in ("anyOf", "oneOf", "allOf"):
        if schema.get(word):
            return _instance(schema[word][0], root, depth + 1)
    return _of_type(schema, root, depth)


def _of_type(schema: Mapping[str, Any], root: Any, depth: int) -> Any:
    kind = schema.get("type", "object" if "properties" in schema else None)
    match kind[0] if isinstance(kind, list) and kind else kind:
        case "object":
            properties = schema.get("properties", {})
            names = schema.get("required", ())
            return {name: _instance(properties.get(name), root, depth + 1) for name in names}
        case "array":
            item = _instance(schema.get("items"), root, depth + 1)
            return [item] * int(schema.get("minItems", 0))
        case "string":
            return "text".ljust(int(schema.get("minLength", 0)), "x")[: schema.get("maxLength")]
        case "integer":
            return int(_number(schema, 1))
        case "number":
            return _number(schema, 1e-3)
        case "boolean":
            return True
    return None


def _number(schema: Mapping[str, Any], little: float) -> float:
    """Return the number nearest to zero that the bounds allow."""
    lowest = schema.get("minimum", schema.get("exclusiveMinimum", -1e9) + little)
    highest = schema.get("maximum", schema.get("exclusiveMaximum", 1e9) - little)
    number: float = min(max(0, lowest), highest)
    if step := schema.get("multipleOf"):
        number = -(-number // step) * step
    return number


def _resolved(reference: str, root: Any) -> Any:
    """Follow a reference within the schema; others give nothing."""
    found = root
    for word in filter(None, reference.removeprefix("#").split("/")):
        found = found.get(word) if isinstance(found, Mapping) else None
    return found
