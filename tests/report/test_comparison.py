"""Two runs side by side."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest

from sage_dask.events import JobFinished
from sage_dask.report import Report
from sage_dask.report.comparison import Comparison
from tests.report.building import EVENTS, MEASURED, START, measured


def compared(ours, theirs):
    """Compare two lists of events."""
    return Comparison("new", Report.from_events(ours), "old", Report.from_events(theirs))


FASTER = [START, measured(0, gate_s=0.0, elapsed_s=1.0), measured(1, gate_s=0.0, elapsed_s=2.0)]


def test_each_figure_has_difference_and_ratio():
    """The first run's value is held against the other's."""
    pairs = {pair.measure.name: pair for pair in compared(FASTER, MEASURED).pairs}

    assert (pairs["throughput"].difference, pairs["throughput"].ratio) == (1.0, 2.0)
    assert pairs["mean latency"].difference == -500.0


def test_a_figure_that_one_run_has_not_is_no_number():
    """A run without requests has none to compare, on either side."""
    for pairs in (compared(MEASURED, EVENTS).pairs, compared(EVENTS, MEASURED).pairs):
        by_name = {pair.measure.name: pair for pair in pairs}
        assert math.isnan(by_name["requests"].difference)
        assert math.isnan(by_name["residue"].ratio)


def test_parts_stand_side_by_side_in_the_order_of_a_batch():
    """A part that only the other run has stands where it does there, and took no time here."""
    parts = compared(FASTER, MEASURED).parts

    names = [part.name for part in parts if not part.of_stage]
    assert names[:3] == ["admission", "gate", "transfer"]
    gate = next(part for part in parts if part.name == "gate")
    assert (gate.seconds, gate.against_s) == (0.0, 0.5)
    assert {part.of_stage for part in parts} == {"", "generate"}


def test_parts_that_were_not_measured_are_no_zeros():
    """Against a run of an older version, a part is not faster or slower."""
    parts = compared(MEASURED, EVENTS).parts

    assert all(math.isnan(part.against_s) for part in parts)


def test_what_differs_about_the_runs_is_told():
    """Policy and versions that differ are named; what is the same is not."""
    here = replace(START, policy="pack", versions={"dask": "2", "python": "3"})
    there = replace(START, policy="spread", versions={"dask": "1", "python": "3"})

    assert compared([here, *EVENTS[1:]], [there, *EVENTS[1:]]).differences == [
        ("policy", "pack", "spread"),
        ("dask", "2", "1"),
    ]


@pytest.mark.parametrize("theirs", [MEASURED, EVENTS, [START], []])
def test_plain_values_are_strict_json(theirs):
    """Both reports, all pairs and all parts go through JSON without NaN."""
    plain = json.loads(json.dumps(compared(FASTER, theirs).as_dict(), allow_nan=False))

    assert set(plain) == {"run", "against", "figures", "parts", "differences"}
    assert plain["run"]["report"]["num_written"] == 4
    assert plain["figures"][0] == {
        "name": "records read",
        "unit": "",
        "better": "neither",
        "run": 4,
        "against": plain["against"]["report"]["num_read"],
        "difference": 4 - plain["against"]["report"]["num_read"],
        "ratio": plain["figures"][0]["ratio"],
    }


def test_a_run_against_itself_has_no_difference():
    """All differences are zero, and nothing differs about the runs."""
    same = compared([*FASTER, JobFinished("done")], [*FASTER, JobFinished("done")])

    assert {pair.difference for pair in same.pairs if not math.isnan(pair.difference)} == {0.0}
    assert {part.difference_s for part in same.parts} == {0.0}
    assert same.differences == []
