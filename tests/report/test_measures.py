"""The figures that have one value each."""

from __future__ import annotations

import math

from sage_dask.report import Report
from sage_dask.report.measures import Measure, measures
from tests.report.building import EVENTS, MEASURED


def test_a_run_without_batches_has_no_rates():
    """What was not measured has no text, and counts are zeros, since nothing was done."""
    texts = {each.name: each.text for each in measures(Report.from_events([]))}

    assert texts["records read"] == "0"
    for name in (
        "throughput",
        "makespan",
        "mean latency",
        "P99 latency",
        "residue",
        "nodes",
        "share that failed",
    ):
        assert texts[name] is None, name


def test_requests_are_told_where_there_were_any():
    """A pipeline without model servers has no row of tokens."""
    asked, computed = (
        {m.name for m in measures(Report.from_events(e))} for e in (MEASURED, EVENTS)
    )

    assert asked - computed >= {"requests", "prompt tokens", "cost"}


def test_values_are_written_with_their_digits():
    """Differences have a sign, unless they round to nothing; cost has digits that can be read."""
    measure = Measure("mean latency", 1234.5678, "ms", 2)

    assert measure.text == "1,234.57"
    assert measure.text_of(3.0, sign="+") == "+3.00"
    assert measure.text_of(-0.001, sign="+") == "+0.00"
    assert measure.text_of(math.nan) is None
    assert Measure("cost", 0.0312, digits=6, is_money=True).text == "0.0312"
