"""The JSON that answers are asked for, and reading it from their text."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sage_dask.errors import PlanError, did_you_mean, listed
from sage_dask.operators.generation.schema_fit import TYPES, faults, part_of, shown, types_of

# Chat models like to wrap JSON as if for a reader.
_FENCED = re.compile(r"\s*```(?:json)?\s*\n(.*?)\n?\s*```\s*\Z", re.DOTALL)
# Where the parts of a schema are: keywords that hold a mapping of them, a list, or one.
_MAPPINGS = ("properties", "$defs", "definitions")
_LISTS = ("anyOf",)
_SINGLES = ("items", "additionalProperties")


@dataclass(frozen=True, slots=True)
class AnswerSchema:
    """What the JSON of an answer must look like; ``schema_fit`` says which keywords are checked.

    The others are sent to the server, which may enforce them.
    """

    root: Mapping[str, Any]

    @classmethod
    def load(cls, schema: Mapping[str, Any] | str) -> AnswerSchema:
        """Return a schema that is given itself, or by the path of its file.

        Raises:
            PlanError: There is no such file, or it holds no usable schema.
        """
        loaded = cls(_read(schema) if isinstance(schema, str) else schema)
        try:
            for part in _parts(loaded.root):
                _check(part, loaded.root)
        except (TypeError, ValueError, AttributeError, re.error) as error:
            raise PlanError(
                f"json_schema: {shown(loaded.root)} is no JSON schema ({error}); "
                "see json-schema.org, or have pydantic's model_json_schema() write it"
            ) from error
        return loaded

    @property
    def response_format(self) -> dict[str, Any]:
        """The field of that name in a request."""
        # The name may only have these characters; pydantic's titles are names of classes.
        name = re.sub(r"[^A-Za-z0-9_-]", "_", str(self.root.get("title") or "answer"))[:64]
        return {"type": "json_schema", "json_schema": {"name": name, "schema": dict(self.root)}}

    def parse(self, text: str) -> Any:
        """Return the value that an answer's text stands for.

        Raises:
            ValueError: It is no JSON, or none that fits; the message says where.
        """
        fenced = _FENCED.match(text)
        fault: str | None
        try:
            value = json.loads(fenced[1] if fenced else text, parse_constant=_refuse)
            fault = next(faults(value, self.root, root=self.root), None)
        except RecursionError:
            fault = "it is nested too deeply"
        except json.JSONDecodeError as error:
            fault = f"it is no JSON: {error.msg} at line {error.lineno}, column {error.colno}"
        # Not inside an except block: the parser's error would take the whole text along.
        if fault is not None:
            raise ValueError(fault)
        return value


def _parts(schema: Any) -> Iterator[Any]:
    """Yield a schema and all that it is made of."""
    yield schema
    if isinstance(schema, Mapping):
        inner = [part for name in _MAPPINGS for part in dict(schema.get(name, {})).values()]
        inner += [part for name in _LISTS for part in schema.get(name, ())]
        inner += [schema[name] for name in _SINGLES if name in schema]
        for part in inner:
            yield from _parts(part)


def _check(schema: Any, root: Mapping[str, Any]) -> None:
    """Raise for a part of a schema that no value could be checked against."""
    if isinstance(schema, bool):
        return
    if not isinstance(schema, Mapping):
        raise TypeError(f"{shown(schema)} stands where a schema must be")
    re.compile(schema.get("pattern", ""))
    for name in types_of(schema):
        if name not in TYPES:
            raise PlanError(
                f"json_schema: type {name!r} is unknown; use one of {listed(TYPES)}"
                f"{did_you_mean(str(name), TYPES)}"
            )
    _check_reference(schema, root)


def _check_reference(schema: Any, root: Mapping[str, Any]) -> None:
    seen: list[str] = []
    while isinstance(schema, Mapping) and "$ref" in schema:
        reference = schema["$ref"]
        try:
            if not f"{reference}/".startswith("#/") or reference in seen:
                raise LookupError(reference)
            schema = part_of(root, reference)
        except (LookupError, TypeError, AttributeError) as error:
            raise PlanError(
                f"json_schema: $ref {reference!r} leads nowhere; refer to a part of the same "
                "schema, such as '#/$defs/Item'"
            ) from error
        seen.append(reference)


def _refuse(constant: str) -> None:
    raise json.JSONDecodeError(f"{constant} is no number", constant, 0)


def _read(path: str) -> Mapping[str, Any]:
    try:
        schema = json.loads(Path(path).read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise PlanError(
            f"json_schema: can not read a schema from {path!r}: {error}; "
            "give the path as seen from where the pipeline is declared"
        ) from error
    if not isinstance(schema, Mapping):
        raise PlanError(f"json_schema: {path!r} holds {shown(schema)}, and an object is wanted")
    return schema
