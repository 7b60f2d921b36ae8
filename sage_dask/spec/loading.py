"""From YAML text to a pipeline, section by section."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from sage_dask.budget import Budget
from sage_dask.errors import PlanError, SpecError, did_you_mean, listed
from sage_dask.max_errors import MaxErrors
from sage_dask.options import RunOptions
from sage_dask.pipeline import Pipeline, check_policy
from sage_dask.schedule import Scheduling
from sage_dask.spec.annotations import hints_of
from sage_dask.spec.building import Scope, build
from sage_dask.spec.document import MAX_BYTES, Marked, oversize, parse_yaml
from sage_dask.spec.fitting import check_fits
from sage_dask.spec.roots import Roots
from sage_dask.spec.stages import OPTIONS, free_name
from sage_dask.spec.words import SINK, SOURCE, STAGE, Role, default_name

_REQUIRED = ("pipeline", "source", "stages", "sink")
_SECTIONS = (*_REQUIRED, "run")
_SCHEDULING = frozenset(field.name for field in fields(Scheduling))
_LIMITS: Mapping[str, Callable[[Any], object]] = {
    "max_cost": lambda limit: Budget(max_cost=limit),
    "max_tokens": lambda limit: Budget(max_tokens=limit),
    "max_errors": MaxErrors,
    "max_stall_s": lambda limit: RunOptions(max_stall_s=limit),
}


@dataclass(frozen=True, slots=True)
class RunDefaults:
    """How a file wants to be run where the command line says nothing; None says nothing."""

    nodes: int | None = None
    threads: int | None = None
    resources: Mapping[str, float] | None = None
    """What each node supplies."""
    policy: str | None = None
    gates: Mapping[str, int] | None = None
    """Limits of the cluster's gates."""
    priority: float | None = None
    """Of the whole job."""
    weight: float | None = None
    quota: Mapping[str, float] | None = None
    record_priority: str | None = None
    ordered: bool | None = None
    batch_size: int | None = None
    target_task_s: float | None = None
    max_cost: float | None = None
    """Most that the run may spend, in the currency of the stages' prices."""
    max_tokens: int | None = None
    max_errors: int | float | None = None
    """Most records that may fail, or the share of those that were read."""
    max_stall_s: float | None = None
    """Seconds without progress that end the run."""


@dataclass(frozen=True, slots=True)
class Spec:
    """What a YAML file says."""

    pipeline: Pipeline
    run: RunDefaults = RunDefaults()


def load(path: str | Path, *, roots: Roots | None = None) -> Pipeline:
    """Return the pipeline that a YAML file declares.

    Args:
        path: The file.
        roots: For a file of someone else's: folders under which everything must lie that it
            reads or writes; it may then name no code.  None lets it name what you may open,
            as is right for a file of your own.

    Raises:
        SpecError: The file can not be read, does not describe a pipeline, or leads out of
            the roots.
    """
    return read(path, roots=roots).pipeline


def loads(text: str, *, base: str | Path | None = None, roots: Roots | None = None) -> Pipeline:
    """Return the pipeline that a YAML text declares.

    Args:
        text: The whole document.
        base: Folder in which ``module:name`` references are looked up first.
        roots: As for :func:`load`.

    Raises:
        SpecError: The text does not describe a pipeline, or leads out of the roots.
    """
    return reads(text, base=base, roots=roots).pipeline


def read(path: str | Path, *, roots: Roots | None = None) -> Spec:
    """Return everything that a YAML file says: as :func:`load`, with its ``run`` section."""
    file = Path(path)
    return reads(_text(file), base=file.parent, origin=str(path), roots=roots)


def reads(
    text: str,
    *,
    base: str | Path | None = None,
    origin: str = "<text>",
    roots: Roots | None = None,
) -> Spec:
    """Return everything that a YAML text says; messages call it ``origin``."""
    document = parse_yaml(text, origin)
    sections = document.mapping("the document")
    _refuse_unknown("section", sections, _SECTIONS)
    if missing := [name for name in _REQUIRED if name not in sections]:
        raise document.fault(f"the pipeline has no {listed(missing)}; add a section of that name")
    scope = Scope(None if base is None else Path(base), roots)
    name = sections["pipeline"]
    if not isinstance(name.value, str) or not name.value:
        raise name.fault(
            f"the pipeline's name is {name.shown}, and a text is wanted{name.in_quotes}"
        )
    pipeline = Pipeline(name.value).source(_only(SOURCE, sections["source"], scope))
    for entry in sections["stages"].items("'stages'"):
        pipeline = _with_stage(pipeline, entry, scope)
    pipeline = pipeline.sink(_only(SINK, sections["sink"], scope))
    run = sections.get("run")
    return Spec(pipeline, RunDefaults() if run is None else _run_defaults(run))


def _text(file: Path) -> str:
    try:
        with file.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise SpecError(
            f"pipeline file {str(file)!r} can not be read ({error.strerror}); check the path"
        ) from error
    if len(data) > MAX_BYTES:
        raise SpecError(f"{file}: {oversize(len(data))}")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        column = error.start - data.rfind(b"\n", 0, error.start)
        raise SpecError(
            f"{file}:{line}:{column}: byte 0x{data[error.start]:02x} is not UTF-8; "
            "save the file as UTF-8"
        ) from error


def _only(role: Role, section: Marked, scope: Scope) -> Any:
    """Make what a section with one entry declares; a bare word is an entry without parameters."""
    if isinstance(section.value, str):
        return build(role, section.value, Marked(None, section.where), scope)
    entries = section.mapping(f"the {role.name}")
    if len(entries) != 1:
        raise section.fault(
            f"the {role.name} has {len(entries)} entries ({listed(entries)}); give exactly one"
        )
    [(word, parameters)] = entries.items()
    return build(role, word, parameters, scope)


def _with_stage(pipeline: Pipeline, entry: Marked, scope: Scope) -> Pipeline:
    """Return the pipeline with the stage that one item of ``stages`` declares."""
    if isinstance(entry.value, str):
        entry = Marked({entry.value: Marked(None, entry.where)}, entry.where)
    parts = entry.mapping("a stage")
    words = [key for key in parts if key not in OPTIONS]
    if len(words) != 1:
        raise entry.fault(
            f"a stage has {len(words)} operators ({listed(words)}); give one, and beside it "
            f"only {listed(OPTIONS)}"
        )
    [word] = words
    operator = build(STAGE, word, parts[word], scope)
    options = {key: _option(key, parts[key]) for key in parts if key in OPTIONS}
    name = options.pop("name", None) or free_name(default_name(word), pipeline.stages)
    try:
        return pipeline.stage(name, operator, **options)
    except PlanError as error:
        raise entry.fault(str(error)) from error


def _option(name: str, given: Marked) -> Any:
    check_fits(given, OPTIONS[name], repr(name))
    return given.plain


def _run_defaults(section: Marked) -> RunDefaults:
    given = section.mapping("'run'")
    known = [field.name for field in fields(RunDefaults)]
    _refuse_unknown("run option", given, known)
    hints = hints_of(RunDefaults)
    for name, value in given.items():
        check_fits(value, hints[name], f"run option {name!r}")
        if name in _SCHEDULING and value.plain is not None:
            _check_scheduling(name, value)
        if name in _LIMITS and value.plain is not None:
            _check_limit(name, value)
    return RunDefaults(**{name: value.plain for name, value in given.items()})


def _check_scheduling(name: str, given: Marked) -> None:
    """Refuse at its line what a run would refuse only later."""
    try:
        check_policy(Scheduling(**{name: given.plain}).policy)
    except PlanError as error:
        raise given.fault(f"run option {name!r}: {error}") from error


def _check_limit(name: str, given: Marked) -> None:
    """Refuse at its line what is no amount to spend, or of records that may fail."""
    try:
        _LIMITS[name](given.plain)
    except PlanError as error:
        raise given.fault(f"run option {error}") from error


def _refuse_unknown(kind: str, given: Mapping[str, Marked], known: Any) -> None:
    for name, value in given.items():
        if name not in known:
            raise value.key_fault(
                f"unknown {kind} {name!r}; known are {listed(known)}{did_you_mean(name, known)}"
            )
