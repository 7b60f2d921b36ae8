"""What a pipeline is known by: per stage, its operator and the settings that decide what comes out.

Two descriptions are compared when a run goes on that a pipeline began
(``changes``).  How a stage is scheduled is no part of one, nor are source and
sink: the input is compared record by record, and an output is only an export.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sage_dask.errors import PlanError
from sage_dask.fingerprint.callables import Plain, reference
from sage_dask.fingerprint.code_digest import class_code, digest, python_version
from sage_dask.fingerprint.plain import attributes, covered, hidden, plain
from sage_dask.stage import Operator, Stage

_VERSION = 1


@dataclass(frozen=True, slots=True)
class StageDescription:
    """One stage as plain data."""

    name: str
    operator: str
    """``module:name`` of its class."""
    code: str = ""
    """Digest of the class's methods; empty for the operators of this package."""
    settings: Mapping[str, Plain] = field(default_factory=dict)
    defaults: Sequence[str] = ()
    """Settings that are as the operator has them by itself.  One that another release of the
    operator does not know is no difference as long as it is one of these."""


@dataclass(frozen=True, slots=True)
class Description:
    """A pipeline as plain data."""

    pipeline: str
    python: str
    """Version of Python, such as ``3.11``; digests of code are of no other."""
    stages: Sequence[StageDescription]


def describe(pipeline_name: str, stages: Sequence[Stage]) -> Description:
    """Return what a pipeline is known by, to be called where it was declared.

    Equal pipelines have equal descriptions, in whatever process.  Not every change is seen:
    what has no reliable description (a model that was loaded, an open file) is known by its
    class, what a function calls by its name, and the content of a file only where the operator
    says so in ``known_by``.  To refuse a pipeline that is the same would be worse.

    Raises:
        PlanError: A file that an operator is known by can not be read.
    """
    return Description(pipeline_name, python_version(), [_stage(stage) for stage in stages])


def to_json(description: Description) -> str:
    """Return a description as one line of JSON, the same for equal descriptions."""
    content = {"version": _VERSION, **dataclasses.asdict(description)}
    return json.dumps(content, sort_keys=True, separators=(",", ":"))


def from_json(text: str) -> Description:
    """Return the description that ``to_json`` wrote.

    Raises:
        PlanError: The text is damaged or of another version.
    """
    try:
        content = json.loads(text)
        version = content.pop("version")
        if version == _VERSION:
            stages = [StageDescription(**stage) for stage in content.pop("stages")]
            return Description(**content, stages=stages)
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        raise PlanError(
            f"the description of the pipeline that began the run is damaged ({error}); "
            "give another run_dir"
        ) from error
    raise PlanError(
        f"the description of the pipeline that began the run has version {version!r}, and this "
        f"sage_dask reads {_VERSION}; resume with the release that began it, or give another "
        "run_dir"
    )


def _stage(stage: Stage) -> StageDescription:
    operator = stage.operator
    code = class_code(type(operator))
    settings = _settings(operator)
    secret = hidden(operator)
    return StageDescription(
        stage.name,
        reference(type(operator)),
        code=digest(code) if code else "",
        settings={
            name: covered(value) if name in secret else value for name, value in settings.items()
        },
        defaults=[
            name
            for name, value in _defaults(operator).items()
            if name in settings and settings[name] == plain(value)
        ],
    )


def _settings(operator: Operator) -> dict[str, Plain]:
    known_as = {**attributes(operator), **operator.known_by()}
    immaterial = frozenset(operator.immaterial)
    return {name: plain(value) for name, value in known_as.items() if name not in immaterial}


def _defaults(operator: Operator) -> dict[str, Any]:
    """Return the defaults of those settings that have one."""
    defaults: dict[str, Any] = {}
    if not dataclasses.is_dataclass(operator):
        return defaults
    for item in dataclasses.fields(operator):
        if item.default_factory is not dataclasses.MISSING:
            defaults[item.name] = item.default_factory()
        elif item.default is not dataclasses.MISSING:
            defaults[item.name] = item.default
    return defaults
