"""What a comparison comes to, in sentences."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sage_dask.events import JobFinished
from sage_dask.report import Report
from sage_dask.report.comparison import Comparison
from sage_dask.report.verdict import verdict
from tests.report.building import EVENTS, MEASURED, START, broken_down, measured

DONE = JobFinished("done")
FASTER = [
    START,
    measured(0, gate_s=0.0, elapsed_s=1.0),
    measured(1, gate_s=0.0, elapsed_s=1.6),
    DONE,
]
CHANCE = (
    "Differences below 5% are called none, and larger ones may still be chance; repeat both to "
    "know."
)


def said(ours, theirs):
    """Return the verdict on two lists of events."""
    ours, theirs = Report.from_events(ours), Report.from_events(theirs)
    return verdict(Comparison("new", ours, "old", theirs))


def test_better_and_worse_are_told_with_the_part_that_moved_most():
    """The same two runs read the other way round say the opposite."""
    assert said(FASTER, MEASURED) == [
        (
            "new against old, one run each: throughput 2.5 times as high (better); mean latency "
            "20% lower (better); P99 latency 20% lower (better); cost about the same."
        ),
        "The mean latency changed by -500.0 ms; the part that moved most is 'gate': -500.0 ms.",
        CHANCE,
    ]
    assert said(MEASURED, FASTER)[0] == (
        "new against old, one run each: throughput 60% lower (worse); mean latency 25% higher "
        "(worse); P99 latency 25% higher (worse); cost about the same."
    )


def test_close_figures_are_no_news():
    """Within five per cent nothing is called better, and no part is said to have moved."""
    close = [START, measured(0, gate_s=0.45, elapsed_s=2.5), measured(1, elapsed_s=3.9), DONE]

    first, second, third = said(close, MEASURED)

    assert "better" not in first
    assert "worse" not in first
    assert second == "No part of the latency moved by more than 5% of it."
    assert third == CHANCE


def test_failures_that_were_none_before_are_worse():
    """A ratio to nothing is none, so the number is told."""
    failing = [START, measured(0, failed=2, elapsed_s=2.5), measured(1), DONE]

    assert "share that failed 33.33 %, and none there (worse)" in said(failing, MEASURED)[0]
    assert "share that failed 100% lower (better)" in said(MEASURED, failing)[0]


def test_what_moved_within_a_stage_is_told():
    """A stage that asks a model server names the part of its own that moved most."""
    report = Report.from_events(MEASURED)
    here = broken_down(("generate", 3.0, ("slot", 2.5), ("generation", 0.5)))
    there = broken_down(("generate", 1.0, ("slot", 0.5), ("generation", 0.5)))

    second = verdict(
        Comparison("new", replace(report, breakdown=here), "old", replace(report, breakdown=there))
    )[1]

    assert second.endswith("most is 'generate': +2.00 s, of which 'slot' +2.00 s.")


def test_a_residue_that_moved_is_called_what_it_is():
    """Nobody reads 'residue' for the first time and knows what it means."""
    report = Report.from_events(MEASURED)
    here, there = broken_down(("a", 1.0), residue_s=1.0), broken_down(("a", 1.0))

    second = verdict(
        Comparison("new", replace(report, breakdown=here), "old", replace(report, breakdown=there))
    )[1]

    assert "the part that moved most is what nobody accounts for: +1.00 s" in second


@pytest.mark.parametrize("theirs", [EVENTS, [START], []])
def test_what_was_not_measured_in_both_is_not_judged(theirs):
    """An older version's parts, or a run without a batch, are no reason for a claim."""
    assert "Where the latency went was not measured in both." in said(MEASURED, theirs)


def test_unlike_runs_and_unfinished_ones_are_warned_of():
    """Another pipeline, another input or another end is said before anybody draws a conclusion."""
    other = replace(START, pipeline="mixed")

    sentences = said([other, measured(0)], MEASURED)

    assert any("like with like: pipeline 'mixed' here, 'rag' there" in s for s in sentences)
    assert any("like with like: records read '2' here, '4' there" in s for s in sentences)
    assert "new is not done (running), and is counted as far as it came." in sentences
