"""Which parameters of which words are paths, and what is done with them.

It is declared, since a name does not tell: ``path`` is one, and so are ``index``
and, where it is a text, ``cache``.  With roots a file can use these words and no
other classes, so the table is complete; a test goes through every parameter that
takes a text.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType

from sage_dask.errors import PlanError
from sage_dask.spec.roots import Roots


class Use(Enum):
    """What is done with a path."""

    READ = "read"
    """A file, a folder or a pattern."""
    WRITTEN = "written"
    """A file or a folder, and companions beside it."""
    MODEL = "model"
    """The folder of a model that is loaded here; its name, where a server has it."""


_SERVED = {"api_key_file": Use.READ}

PATHS: Mapping[str, Mapping[str, Use]] = MappingProxyType(
    {
        "read_csv": {"path": Use.READ},
        "read_jsonl": {"path": Use.READ},
        "read_openai_batch": {"path": Use.READ},
        "read_parquet": {"path": Use.READ},
        "read_text": {"path": Use.READ},
        "embed": {**_SERVED, "model": Use.MODEL},
        "generate": {
            **_SERVED,
            "json_schema": Use.READ,
            "cache": Use.WRITTEN,
            "embedder": Use.MODEL,
        },
        "prompt": {"path": Use.READ},
        "rerank": {**_SERVED, "index": Use.READ, "model": Use.MODEL},
        "retrieve": {"index": Use.READ},
        "write_csv": {"path": Use.WRITTEN},
        "write_index": {"path": Use.WRITTEN},
        "write_jsonl": {"path": Use.WRITTEN},
        "write_openai_batch": {"path": Use.WRITTEN},
        "write_parquet": {"path": Use.WRITTEN},
    }
)


def use_of(word: str, name: str, *, is_served: bool) -> Use | None:
    """Return what is done with the text of a parameter; None where it is no path.

    Args:
        word: The operator, source or sink.
        name: The parameter.
        is_served: Whether a model server does the work, which knows models by name.
    """
    use = PATHS.get(word, {}).get(name)
    return None if use is Use.MODEL and is_served else use


def admitted(path: str, use: Use, roots: Roots | None) -> str:
    """Return the path that the pipeline is given: without roots, the one that the file has.

    Raises:
        PlanError: No file can have this path, or it leads out of the roots.
    """
    if "\0" in path:
        raise PlanError(f"{path!r} holds the character U+0000, which no path has; take it out")
    if roots is None:
        return path
    admit = {Use.READ: roots.readable, Use.WRITTEN: roots.writable, Use.MODEL: roots.model}
    return admit[use](path)
