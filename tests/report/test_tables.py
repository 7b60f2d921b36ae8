"""The tables of one report."""

from __future__ import annotations

import pytest

from sage_dask.report import Report, tables
from tests.report.building import EVENTS, MEASURED, START, measured

ALL = [
    tables.summary_table,
    tables.breakdown_table,
    tables.categories_table,
    tables.stages_table,
    tables.nodes_table,
    tables.requests_table,
    tables.calls_table,
    tables.failures_table,
    tables.last_failures_table,
    tables.startup_table,
    tables.conditions_table,
]


@pytest.mark.parametrize("events", [MEASURED, EVENTS, [START], EVENTS[1:2], []])
@pytest.mark.parametrize("make", ALL, ids=lambda make: make.__name__)
def test_every_run_has_every_table(make, events):
    """Whatever a run lacks, its rows are as long as the columns, and no cell is NaN."""
    table = make(Report.from_events(events))

    assert {len(row) for row in table.rows} <= {len(table.columns)}
    assert not any("nan" in (cell or "") for row in table.rows for cell in row)


def test_categories_that_were_not_measured_are_gaps():
    """A table for print keeps its rows, and none of them is a zero."""
    table = tables.categories_table(Report.from_events(EVENTS))

    assert len(table.rows) == 10
    assert {row[1:] for row in table.rows} == {(None, None)}


def test_calls_are_told_per_call():
    """Our clock's times by call, the server's by the answers that tell them."""
    (row,) = tables.calls_table(Report.from_events(MEASURED)).rows

    assert row == ("generate", "4", "100.00", "1,000.00", "0.00", "100.00", "200.00", "600.00")


def test_failures_stand_by_kind_and_the_last_ones_first():
    """The most frequent kind is first; of single ones, the latest."""
    report = Report.from_events([START, measured(0, failed=1), measured(1, failed=1)])

    assert tables.failures_table(report).rows == [("embed: ValueError", "2")]
    assert [row[0] for row in tables.last_failures_table(report).rows] == ["q-1-0", "q-0-0"]


def test_a_breakdown_of_some_records_is_marked():
    """What an older version wrote is no part of it, and the note says how much that is."""
    report = Report.from_events([*EVENTS[:3], measured(2)])

    assert tables.breakdown_table(report).note.startswith("Of 2 of 8 records")
