"""A breakdown as the rows of a table: small parts are one row, and all rows add up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sage_dask.breakdown import RESIDUE, Breakdown, Part, explained

# A part of less than this share of the latency has no row of its own: it would read 0.0 %.
LEAST_SHARE = 0.0005

# What rows are called that are no stages; a stage that bears such a name is called one.
_NO_STAGES = frozenset(name for name, _ in explained()) | {"total"}

# Names of the parts that one row sums up, as many as fit beside the figures.
_MOST_NAMES = 3


@dataclass(frozen=True, slots=True)
class Row:
    """One row: a part of the latency, of a stage, or what is left of either."""

    name: str
    seconds: float
    """Mean per record that was written."""
    share: float
    """Of the whole latency, also for parts of a stage."""
    meaning: str = ""
    is_sub_part: bool = False
    """Whether it is a part of the stage above, and no part of the sum."""
    is_rest: bool = False
    """Whether it sums up the parts that are too small for a row."""


def breakdown_rows(breakdown: Breakdown, least_share: float = LEAST_SHARE) -> list[Row]:
    """Return the rows of a breakdown; those that are no sub-parts add up to the latency.

    Args:
        breakdown: Where the latency went.
        least_share: Parts below this share of the latency are one row, before the residue.
    """
    residues = [part for part in breakdown.parts if _is_residue(part)]
    parts = [part for part in breakdown.parts if not _is_residue(part)]
    shown, small = _divided(parts, breakdown, least_share)
    rows: list[Row] = []
    for part in shown:
        rows.append(_row(part, breakdown))
        large, rest = _divided(part.parts, breakdown, least_share)
        if large:
            rows += [_row(each, breakdown, is_sub_part=True) for each in large]
            rows += _others(rest, breakdown, is_sub_part=True)
    rows += _others(small, breakdown)
    return rows + [_row(part, breakdown) for part in residues]


def few_rows(breakdown: Breakdown, most: int) -> list[Row]:
    """Return rows as ``breakdown_rows`` does, the small ones summed up until ``most`` remain.

    Args:
        breakdown: Where the latency went.
        most: Rows wanted, at least two: those that are left at last are the rest and the residue.
    """
    least_share = LEAST_SHARE
    while len(rows := breakdown_rows(breakdown, least_share)) > most:
        least_share *= 1.5
    return rows


def _is_residue(part: Part) -> bool:
    return part.name == RESIDUE and not part.is_stage


def _divided(
    parts: Sequence[Part], breakdown: Breakdown, least_share: float
) -> tuple[list[Part], list[Part]]:
    """Return the parts with a row of their own, and those without; nothing took no time at all."""
    took_time = [part for part in parts if part.seconds]
    if breakdown.latency_s <= 0:
        # Nothing is large beside no time at all.
        return [], took_time
    least_s = least_share * breakdown.latency_s
    large = [part for part in took_time if abs(part.seconds) >= least_s]
    return large, [part for part in took_time if abs(part.seconds) < least_s]


def _others(parts: Sequence[Part], breakdown: Breakdown, *, is_sub_part: bool = False) -> list[Row]:
    """Return the row of the small parts; none where there are none."""
    if not parts:
        return []
    by_size = sorted(parts, key=lambda part: -abs(part.seconds))
    names = ", ".join(_name(part) for part in by_size[:_MOST_NAMES])
    more = f" and {len(parts) - _MOST_NAMES} more" if len(parts) > _MOST_NAMES else ""
    rest = Part(f"other parts ({names}{more})", sum(part.seconds for part in parts), "small parts")
    return [replace(_row(rest, breakdown, is_sub_part=is_sub_part), is_rest=True)]


def _row(part: Part, breakdown: Breakdown, *, is_sub_part: bool = False) -> Row:
    share = part.seconds / breakdown.latency_s if breakdown.latency_s else 0.0
    return Row(_name(part), part.seconds, share, part.meaning, is_sub_part)


def _name(part: Part) -> str:
    """Return what a part's row is called, which is no other row's name."""
    return f"stage {part.name}" if part.is_stage and part.name in _NO_STAGES else part.name
