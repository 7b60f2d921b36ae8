"""Sources, operators and sinks by the words of a specification.

The table names classes and imports none, so that reading a pipeline loads the
modules it uses and no others.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from sage_dask.errors import SageError, SpecError, did_you_mean, listed
from sage_dask.spec.annotations import fits, hints_of, wanted
from sage_dask.spec.document import Marked
from sage_dask.spec.references import is_reference, reference_to, resolve
from sage_dask.stage import Operator, Sink, Source

# The one parameter whose text is a reference; any other text stays a text.
FUNCTION = "function"

_PACKAGE = "sage_dask.operators"


@dataclass(frozen=True, slots=True)
class Role:
    """A place in a pipeline, and the words known there."""

    name: str
    base: type
    words: Mapping[str, str]
    """``module:Class`` by word."""


SOURCE = Role(
    "source",
    Source,
    MappingProxyType(
        {
            "from_iterable": f"{_PACKAGE}.sources:FromIterable",
            "read_csv": f"{_PACKAGE}.sources:ReadCsv",
            "read_jsonl": f"{_PACKAGE}.sources:ReadJsonl",
            "read_openai_batch": f"{_PACKAGE}.sources:ReadOpenAIBatch",
            "read_parquet": f"{_PACKAGE}.sources:ReadParquet",
            "read_text": f"{_PACKAGE}.sources:ReadText",
        }
    ),
)
STAGE = Role(
    "operator",
    Operator,
    MappingProxyType(
        {
            "chunk": f"{_PACKAGE}.text:Chunk",
            "embed": f"{_PACKAGE}.embed:Embed",
            "filter": f"{_PACKAGE}.basic:Filter",
            "flat_map": f"{_PACKAGE}.basic:FlatMap",
            "generate": f"{_PACKAGE}.generate:Generate",
            "map": f"{_PACKAGE}.basic:Map",
            "prompt": f"{_PACKAGE}.prompt:Prompt",
            "rerank": f"{_PACKAGE}.rerank:Rerank",
            "retrieve": f"{_PACKAGE}.retrieve:Retrieve",
            "select": f"{_PACKAGE}.basic:Select",
        }
    ),
)
SINK = Role(
    "sink",
    Sink,
    MappingProxyType(
        {
            "collect": f"{_PACKAGE}.sinks:Collect",
            "write_csv": f"{_PACKAGE}.sinks:WriteCsv",
            "write_index": f"{_PACKAGE}.write_index:WriteIndex",
            "write_jsonl": f"{_PACKAGE}.sinks:WriteJsonl",
            "write_openai_batch": f"{_PACKAGE}.sinks:WriteOpenAIBatch",
            "write_parquet": f"{_PACKAGE}.sinks:WriteParquet",
        }
    ),
)
_ROLES = (SOURCE, STAGE, SINK)


def build(role: Role, word: str, parameters: Marked, folder: Path | None) -> Any:
    """Make the source, operator or sink that one entry declares.

    Args:
        role: What is wanted in this place.
        word: A word of the role, or ``module:Class``.
        parameters: The entry's value: a mapping, or null for no parameters.
        folder: Where references are looked up first.

    Raises:
        SpecError: The word, a parameter's name or its value is refused.
    """
    cls = _class(role, word, parameters, folder)
    known = {field.name: field for field in parameters_of(cls)}
    given = {} if parameters.value is None else dict(parameters.mapping(word))
    for name, value in given.items():
        if name not in known:
            raise value.key_fault(
                f"{word}: unknown parameter {name!r}; known are {listed(known)}"
                f"{did_you_mean(name, known)}"
            )
    missing = [name for name, field in known.items() if _is_required(field) and name not in given]
    if missing:
        raise parameters.key_fault(f"{word}: needs {listed(missing)}; give it a value")
    hints = hints_of(cls)
    values = {
        name: _value(word, name, value, hints.get(name, Any), folder)
        for name, value in given.items()
    }
    return made(cls, values, lambda why: parameters.key_fault(f"{word}: {why}"))


def made(
    cls: Callable[..., Any], values: Mapping[str, Any], fault: Callable[[str], SpecError]
) -> Any:
    """Call a class with keyword arguments; what it raises becomes a fault of the entry."""
    try:
        return cls(**values)
    except SageError as error:
        raise fault(str(error)) from error
    except Exception as error:
        raise fault(f"{type(error).__name__}: {error}") from error


def word_for(role: Role, thing: object) -> str:
    """Return the word or the ``module:Class`` that declares something of a class.

    Raises:
        SpecError: The class can not be imported by a name.
    """
    cls = type(thing)
    word = snake_case(cls.__name__)
    if word in role.words and resolve(role.words[word], None) is cls:
        return word
    return reference_to(cls)


def default_name(word: str) -> str:
    """Return what a stage is called after its word: ``ops:Upper`` gives ``upper``."""
    return snake_case(re.split(r"[:.]", word)[-1])


def parameters_of(cls: type) -> tuple[Field[Any], ...]:
    """Return the constructor's parameters; none for a class that is no dataclass."""
    return tuple(field for field in fields(cls) if field.init) if is_dataclass(cls) else ()


def snake_case(name: str) -> str:
    """Return a class name as a word: ``ReadOpenAIBatch`` gives ``read_openai_batch``."""
    # The one name that is not spelt by its capitals.
    name = name.replace("OpenAI", "Openai")
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


def _class(role: Role, word: str, entry: Marked, folder: Path | None) -> type:
    if word not in role.words and not is_reference(word):
        raise entry.key_fault(_unknown(role, word))
    try:
        cls: type = resolve(role.words.get(word, word), None if word in role.words else folder)
    except SpecError as error:
        raise entry.key_fault(str(error)) from error
    # issubclass() refuses protocols that declare properties.
    if role.base not in getattr(cls, "__mro__", ()):
        raise entry.key_fault(
            f"{word!r} is no {role.name}; give a subclass of sage_dask.{role.base.__name__}"
        )
    return cls


def _unknown(role: Role, word: str) -> str:
    for other in _ROLES:
        if word in other.words:
            return f"{word!r} is a {other.name}, and this is the place of a {role.name}"
    return (
        f"unknown {role.name} {word!r}; known are {listed(role.words)}, and any 'module:Class'"
        f"{did_you_mean(word, role.words)}"
    )


def _is_required(field: Field[Any]) -> bool:
    return field.default is MISSING and field.default_factory is MISSING


def _value(word: str, name: str, given: Marked, hint: Any, folder: Path | None) -> Any:
    value = given.plain
    if name == FUNCTION and isinstance(value, str):
        try:
            value = resolve(value, folder)
        except SpecError as error:
            raise given.fault(f"{word}: {error}") from error
    if not fits(value, hint):
        shown = given.shown if value == given.plain else repr(value)
        raise given.fault(
            f"{word}: parameter {name!r} is {shown}, and what is wanted is {wanted(hint)}"
        )
    return value
