"""The words of a specification, and the classes that they stand for.

The table names classes and imports none, so that reading a pipeline loads the
modules it uses and no others.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from sage_dask.errors import did_you_mean, listed
from sage_dask.spec.references import reference_to, resolve
from sage_dask.stage import Operator, Sink, Source

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


def snake_case(name: str) -> str:
    """Return a class name as a word: ``ReadOpenAIBatch`` gives ``read_openai_batch``."""
    # The one name that is not spelt by its capitals.
    name = name.replace("OpenAI", "Openai")
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


def unknown_word(role: Role, word: str) -> str:
    """Return what to say of a word that a role does not know."""
    for other in _ROLES:
        if word in other.words:
            return f"{word!r} is a {other.name}, and this is the place of a {role.name}"
    return (
        f"unknown {role.name} {word!r}; known are {listed(role.words)}, and any 'module:Class'"
        f"{did_you_mean(word, role.words)}"
    )
