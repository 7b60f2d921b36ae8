"""What is different about a pipeline that goes on with a run that another began.

A change is accepted by the name of its stage: what is done stays as it is, and
the rest is done by the new pipeline.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher

from sage_dask.errors import PlanError, counted, did_you_mean, listed
from sage_dask.fingerprint.description import Description, StageDescription
from sage_dask.fingerprint.plain_changes import (
    bare,
    holds_code,
    is_same_name,
    shown,
    value_changes,
    without_code,
)


@dataclass(frozen=True, slots=True)
class Change:
    """One difference between two pipelines."""

    stage: str
    """The stage to accept it by."""
    what: str
    """Name of the setting; or ``stage``, ``order``, ``operator``, ``code`` or ``python``."""
    text: str
    """The difference in words, for people."""


def differences(old: Description, new: Description) -> list[Change]:
    """Return what is different, stages that are gone or new first."""
    before = {stage.name: stage for stage in old.stages}
    after = {stage.name: stage for stage in new.stages}
    gone = [
        Change(name, "stage", f"stage {name!r} is gone") for name in before if name not in after
    ]
    fresh = [
        Change(name, "stage", f"stage {name!r} is new") for name in after if name not in before
    ]
    common = [name for name in after if name in before]
    changes = [*gone, *fresh, *_moves([name for name in before if name in after], common)]
    for name in common:
        pair = before[name], after[name]
        if old.python != new.python and any(map(_has_code, pair)):
            changes.append(Change(name, "python", f"stage {name!r}: {_python(old, new)}"))
            pair = _without_code(pair[0]), _without_code(pair[1])
        found = _in_stage(*pair)
        changes += [Change(name, what, f"stage {name!r}: {text}") for what, text in found]
    return changes


def refuse_changes(old: Description, new: Description, accepted: Collection[str] = ()) -> None:
    """Raise unless each stage that changed is among those whose changes the user accepts.

    Raises:
        PlanError: A change is not accepted, or a name is that of no stage; the message lists
            every change that is not accepted.
    """
    stages = {stage.name for stage in (*old.stages, *new.stages)}
    for name in accepted:
        if name not in stages:
            raise PlanError(
                f"changes of stage {name!r} are accepted, but pipeline {new.pipeline!r} has no "
                f"such stage; its stages are {listed(stages)}{did_you_mean(name, stages)}"
            )
    refused = [change for change in differences(old, new) if change.stage not in accepted]
    if not refused:
        return
    names = dict.fromkeys(change.stage for change in refused)
    options = " ".join(f"--accept-changes {name}" for name in (*accepted, *names))
    raise PlanError(
        f"pipeline {new.pipeline!r} is not as it was when the run began, "
        f"{counted(len(refused), 'change')}:\n"
        + "".join(f"  {change.text}\n" for change in refused)
        + f"resume with {options} to keep what is done and use the new pipeline for the rest, "
        "or give another run_dir"
    )


def _moves(before: Sequence[str], after: Sequence[str]) -> Iterator[Change]:
    """Yield the fewest stages that have to move to get from one order to the other."""
    blocks = SequenceMatcher(None, before, after, autojunk=False).get_matching_blocks()
    kept = {name for block in blocks for name in before[block.a : block.a + block.size]}
    for name in after:
        if name not in kept:
            order = " -> ".join(_around(before, name)), " -> ".join(_around(after, name))
            text = f"stages change places: {name!r} stood in {order[0]}, stands in {order[1]}"
            yield Change(name, "order", text)


def _around(names: Sequence[str], name: str) -> Sequence[str]:
    place = names.index(name)
    return names[max(place - 1, 0) : place + 2]


def _python(old: Description, new: Description) -> str:
    return (
        f"the run began with Python {old.python} and this is {new.python}, which have different "
        "instructions, so whether the code of its functions changed can not be told"
    )


def _has_code(stage: StageDescription) -> bool:
    return bool(stage.code) or holds_code(dict(stage.settings))


def _without_code(stage: StageDescription) -> StageDescription:
    return replace(stage, code="", settings=without_code(dict(stage.settings)))


def _in_stage(old: StageDescription, new: StageDescription) -> Iterator[tuple[str, str]]:
    """Yield each difference between two stages of one name: what it is in, and in words."""
    if not is_same_name(old.operator, new.operator):
        yield "operator", f"the operator was {bare(old.operator)}, is {bare(new.operator)}"
        return
    if old.code != new.code:
        yield "code", f"the code of class {bare(new.operator)!r} changed"
    for name in dict.fromkeys((*old.settings, *new.settings)):
        for text in _in_setting(name, old, new):
            yield name, text


def _in_setting(name: str, old: StageDescription, new: StageDescription) -> Iterator[str]:
    if name in old.settings and name in new.settings:
        yield from value_changes(name, old.settings[name], new.settings[name])
    # One that only one release of the operator has, and that is not used, changes nothing.
    elif name in new.settings and name not in new.defaults:
        yield f"{name} was not given, is {shown(new.settings[name])}"
    elif name in old.settings and name not in old.defaults:
        yield f"{name} was {shown(old.settings[name])}, is not given"
