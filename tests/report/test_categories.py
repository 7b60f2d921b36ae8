"""The latency in the categories of the SAGE evaluation."""

from __future__ import annotations

import pytest

from sage_dask.breakdown import Breakdown, explained
from sage_dask.report import Report
from sage_dask.report.categories import MEANINGS, categories
from tests.report.building import MEASURED, broken_down


def test_categories_add_up_to_the_latency():
    """Each part belongs to one category; the wait for a turn is no time of the model's."""
    report = Report.from_events(MEASURED)

    folded = categories(report.breakdown)

    assert sum(folded.values()) == pytest.approx(report.breakdown.latency_s)
    assert {name: round(seconds, 6) for name, seconds in folded.items()} == {
        "scheduling": 0.0,
        "queue wait": 0.6,
        "embed": 0.4,
        "retrieve": 0.0,
        "rerank": 0.0,
        "generate": 1.1,
        "transfer": 0.4,
        "other": 0.0,
        "residue": 0.0,
    }


def test_every_part_has_a_category():
    """A part that the breakdown gains must be put somewhere, or its time would be missing."""
    names = [name for name, _ in explained() if name[0] != " " and name not in ("STAGE", "residue")]

    folded = categories(broken_down(*((name, 1.0) for name in names), residue_s=1.0))

    assert sum(folded.values()) == len(names) + 1
    assert list(folded) == list(MEANINGS)


@pytest.mark.parametrize(
    ("stage", "category"),
    [("Embed", "embed"), ("rerank-2", "rerank"), ("generate", "generate"), ("prompt", "other")],
)
def test_stages_belong_where_their_name_begins(stage, category):
    """Names are the user's: upper case and endings do not matter."""
    assert categories(broken_down((stage, 1.0, ("answer", 1.0))))[category] == 1.0


def test_a_stage_may_be_called_like_a_part():
    """A stage named gate computes, and does not wait."""
    assert categories(broken_down(("gate", 1.0, ("answer", 1.0))))["other"] == 1.0


def test_what_was_not_measured_has_no_categories():
    """An older version's run has none, rather than zeros."""
    assert categories(Breakdown()) == {}
