"""The tables of a comparison, from which its forms are made."""

from __future__ import annotations

import math
from collections.abc import Iterator

from sage_dask.breakdown import RESIDUE
from sage_dask.report.comparison import Comparison, PartPair
from sage_dask.report.figures import Figures
from sage_dask.report.rows import LEAST_SHARE
from sage_dask.report.table import INDENT, Table, text_of
from sage_dask.report.tables import NOT_KNOWN
from sage_dask.report.verdict import verdict


def comparison_tables(comparison: Comparison) -> list[Table]:
    """Return figures, parts of the latency and conditions, side by side."""
    return [_figures(comparison), _parts(comparison), _conditions(comparison)]


def comparison_lines(comparison: Comparison) -> Iterator[str]:
    """Yield a comparison as text: the verdict, and the tables."""
    yield from verdict(comparison)
    for table in comparison_tables(comparison):
        if table.rows:
            yield ""
            yield from text_of(table)


def _figures(comparison: Comparison) -> Table:
    rows = []
    for pair in comparison.pairs:
        measure = pair.measure
        name = f"{measure.name} ({measure.unit})" if measure.unit else measure.name
        values = measure.text, measure.text_of(pair.against)
        difference = measure.text_of(pair.difference, sign="+")
        rows.append((name, *values, difference, _ratio(measure.value, pair.against)))
    columns = ("figure", comparison.name, comparison.against_name, "difference", "ratio")
    return Table("Figures", columns, rows)


def _parts(comparison: Comparison) -> Table:
    least_s = LEAST_SHARE * max(
        comparison.figures.breakdown.latency_s, comparison.against.breakdown.latency_s
    )
    parts = comparison.parts
    large = [part for part in parts if _has_row(part, least_s)]
    small = [part for part in parts if part not in large and not part.of_stage]
    rows = [_row(part) for part in large]
    if small:
        here_s, there_s = sum(p.seconds for p in small), sum(p.against_s for p in small)
        rows.append(_row(PartPair("other parts, each below 0.05 %", here_s, there_s)))
    if rows:
        here_s, there_s = _total(comparison.figures), _total(comparison.against)
        rows.append(_row(PartPair("total", here_s, there_s)))
    columns = ("part", comparison.name, comparison.against_name, "difference", "ratio")
    return Table("Parts of the mean latency, ms per record", columns, rows)


def _has_row(part: PartPair, least_s: float) -> bool:
    """Return whether a part is large in one of the runs, was not measured, or is the residue."""
    if part.name == RESIDUE and not part.of_stage:
        return True
    return not (abs(part.seconds) < least_s and abs(part.against_s) < least_s)


def _total(figures: Figures) -> float:
    breakdown = figures.breakdown
    return breakdown.latency_s if breakdown.num_records else math.nan


def _row(part: PartPair) -> tuple[str, str | None, str | None, str | None, str | None]:
    name = f"{INDENT if part.of_stage else ''}{part.name}"
    return (
        name,
        _ms(part.seconds),
        _ms(part.against_s),
        _ms(part.difference_s, sign="+"),
        _ratio(part.seconds, part.against_s),
    )


def _ms(seconds: float, sign: str = "") -> str | None:
    return None if math.isnan(seconds) else f"{1000 * seconds:{sign}z,.3f}"


def _ratio(value: float, against: float) -> str | None:
    """Return a ratio; nothing can be said of one to nothing, though both were measured."""
    if math.isnan(value - against):
        return None
    return f"{value / against:.2f}" if against else "n/a"


def _conditions(comparison: Comparison) -> Table:
    rows = [
        (what, here or NOT_KNOWN, there or NOT_KNOWN)
        for what, here, there in comparison.differences
    ]
    columns = ("what", comparison.name, comparison.against_name)
    return Table("What differs about the runs", columns, rows, words=(0, 1, 2))
