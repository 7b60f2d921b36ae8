"""From a pipeline to the YAML text that declares it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import MISSING, is_dataclass
from typing import Any

import yaml

from sage_dask.errors import SpecError
from sage_dask.pipeline import Pipeline
from sage_dask.spec.building import FUNCTION, parameters_of
from sage_dask.spec.document import parse_yaml
from sage_dask.spec.references import reference_to
from sage_dask.spec.scalars import LEAST, MOST
from sage_dask.spec.schema import Dumper
from sage_dask.spec.stages import free_name, options_of
from sage_dask.spec.words import (
    SINK,
    SOURCE,
    STAGE,
    Role,
    default_name,
    word_for,
)
from sage_dask.stage import Stage

_LINE_CHARS = 100


def dump(pipeline: Pipeline) -> str:
    """Return the YAML text that :func:`sage_dask.spec.loads` makes an equal pipeline of.

    Parameters at their defaults are left out and functions are written as
    ``module:name``.  Tuples come back as lists.

    Raises:
        SpecError: Something in the pipeline has no form in YAML; the message names it.
    """
    if pipeline.input is None or pipeline.output is None:
        missing = "source" if pipeline.input is None else "sink"
        raise SpecError(
            f"pipeline {pipeline.name!r} has no {missing}; add one with .{missing}(...)"
        )
    document = {
        "pipeline": pipeline.name,
        "source": _entry(SOURCE, pipeline.input, f"pipeline {pipeline.name!r}, source"),
        "stages": [_stage(pipeline, place) for place in range(len(pipeline.stages))],
        "sink": _entry(SINK, pipeline.output, f"pipeline {pipeline.name!r}, sink"),
    }
    text: str = yaml.dump(
        document,
        Dumper=Dumper,
        sort_keys=False,
        allow_unicode=True,
        default_flow_style=None,
        width=_LINE_CHARS,
    )
    # A text that reads differently would be found only when it is run: bounds are checked here.
    if parse_yaml(text, f"pipeline {pipeline.name!r} as YAML").plain != document:
        raise SpecError(f"pipeline {pipeline.name!r} does not survive YAML; this is a defect")
    return text


def _stage(pipeline: Pipeline, place: int) -> dict[str, Any]:
    stage: Stage = pipeline.stages[place]
    what = f"pipeline {pipeline.name!r}, stage {stage.name!r}"
    entry = _entry(STAGE, stage.operator, what)
    [word] = entry
    is_default = stage.name == free_name(default_name(word), pipeline.stages[:place])
    name = {} if is_default else {"name": stage.name}
    options = {name: _plain(value, f"{what}: {name}") for name, value in options_of(stage).items()}
    return {**name, **entry, **options}


def _entry(role: Role, thing: object, what: str) -> dict[str, Any]:
    """Return ``{word: parameters}``."""
    if not is_dataclass(thing) and vars(thing):
        raise SpecError(
            f"{what}: {type(thing).__name__} is no dataclass, so its parameters are not known; "
            "declare them as fields under @dataclass"
        )
    try:
        word = word_for(role, thing)
    except SpecError as error:
        raise SpecError(f"{what}: {error}") from error
    return {word: _parameters(thing, what)}


def _parameters(thing: object, what: str) -> dict[str, Any]:
    parameters = {}
    for field in parameters_of(type(thing)):
        value = getattr(thing, field.name)
        default = field.default if field.default_factory is MISSING else field.default_factory()
        if not _is_same(value, default):
            parameters[field.name] = _parameter(field.name, value, what)
    return parameters


def _parameter(name: str, value: Any, what: str) -> Any:
    if name == FUNCTION and callable(value):
        try:
            return reference_to(value)
        except SpecError as error:
            raise SpecError(f"{what}: {name}: {error}") from error
    return _plain(value, f"{what}: {name}")


def _is_same(value: Any, default: Any) -> bool:
    """Compare kinds first: an array has no one answer to ``==``, and ``True`` equals ``1``."""
    return type(value) is type(default) and bool(value == default)


def _plain(value: Any, what: str) -> Any:
    """Return a copy made of what YAML can say, or raise ``SpecError``."""
    if value is None or type(value) in (bool, str):
        return value
    if type(value) is int and LEAST <= value <= MOST:
        return value
    if type(value) is float and math.isfinite(value):
        return value
    if isinstance(value, Mapping):
        return {_key(key, what): _plain(item, f"{what}[{key!r}]") for key, item in value.items()}
    if type(value) in (list, tuple):
        return [_plain(item, f"{what}[{place}]") for place, item in enumerate(value)]
    raise SpecError(
        f"{what} is {value!r:.80} ({type(value).__name__}), which YAML can not say; use texts, "
        "finite numbers of 64 bits, booleans, None, lists and dicts"
    )


def _key(key: Any, what: str) -> str:
    if type(key) is not str:
        raise SpecError(f"{what} has the key {key!r}; keys in YAML are texts here")
    return key
