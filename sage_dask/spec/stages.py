"""What a stage has beside its operator, in a specification: its name and its options."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields
from itertools import count
from types import MappingProxyType
from typing import Any

from sage_dask.spec.annotations import hints_of
from sage_dask.stage import Stage

# Every field of Stage but the operator, which stands there under its own word.
OPTIONS: Mapping[str, Any] = MappingProxyType(
    {name: hint for name, hint in hints_of(Stage).items() if name != "operator"}
)


def free_name(name: str, stages: Iterable[Stage]) -> str:
    """Return a name that no stage has yet: ``rerank``, then ``rerank_2``."""
    taken = {stage.name for stage in stages}
    if name not in taken:
        return name
    return next(f"{name}_{n}" for n in count(2) if f"{name}_{n}" not in taken)


def options_of(stage: Stage) -> dict[str, Any]:
    """Return the options of a stage that are not at their defaults, its name left out."""
    return {
        field.name: value
        for field in fields(Stage)
        if field.name in OPTIONS and field.name != "name"
        if (value := getattr(stage, field.name)) != _default(field)
    }


def _default(field: Any) -> Any:
    return field.default if field.default_factory is MISSING else field.default_factory()
