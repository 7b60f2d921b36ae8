"""The tables of a comparison."""

from __future__ import annotations

import pytest

from sage_dask.report import Report
from sage_dask.report.comparison import Comparison
from sage_dask.report.comparison_tables import comparison_lines, comparison_tables
from sage_dask.report.latex import latex
from tests.report.building import EVENTS, MEASURED, START, measured

FASTER = [START, measured(0, gate_s=0.0, elapsed_s=1.0), measured(1, gate_s=0.0, elapsed_s=1.6)]


def compared(ours, theirs):
    """Compare two lists of events."""
    return Comparison("new", Report.from_events(ours), "old", Report.from_events(theirs))


def test_parts_add_up_in_both_columns():
    """Parts, the rest and the residue are the total; a ratio to nothing is none."""
    table = comparison_tables(compared(MEASURED, FASTER))[1]

    rows = {row[0]: row[1:] for row in table.rows}
    assert rows["gate"] == ("500.000", "0.000", "+500.000", "n/a")
    assert rows["total"] == ("2,500.000", "2,000.000", "+500.000", "1.25")
    for column in (1, 2):
        whole = [row for row in table.rows if row[0][0] != " " and row[0] != "total"]
        amounts = [float(row[column].replace(",", "")) for row in whole]
        total = float(rows["total"][column - 1].replace(",", ""))
        assert sum(amounts) == pytest.approx(total, abs=0.001 * len(whole))
    assert "residue" in rows


@pytest.mark.parametrize("theirs", [MEASURED, EVENTS, [START], EVENTS[1:2], []])
@pytest.mark.parametrize("ours", [MEASURED, EVENTS, [START]])
def test_any_two_runs_compare_in_all_forms(ours, theirs):
    """Killed, older or empty runs leave gaps, never NaN."""
    comparison = compared(ours, theirs)

    text = "\n".join(comparison_lines(comparison))
    tables = latex(comparison_tables(comparison), "c")

    assert text.startswith("new against old, one run each: ")
    assert "nan" not in text
    assert "nan" not in tables


def test_conditions_that_are_the_same_have_no_table():
    """Two runs that differ in nothing but their figures show two tables."""
    text = "\n".join(comparison_lines(compared(MEASURED, MEASURED)))

    assert "What differs about the runs" not in text
