"""The figures of a report as plain values."""

from __future__ import annotations

import json
from dataclasses import fields

import pytest

from sage_dask.report import Report
from sage_dask.report.figures import Figures
from tests.report.building import EVENTS, MEASURED, START

COMPUTED = {
    "throughput_per_s",
    "usage",
    "tokens_per_s",
    "balance_of_records",
    "balance_of_busy_time",
}


def strict(report):
    """Return a report as it comes back from JSON in which there is no NaN."""
    return json.loads(json.dumps(report.as_dict(), allow_nan=False))


@pytest.mark.parametrize("events", [MEASURED, EVENTS, EVENTS[:2], [START], EVENTS[1:2], []])
def test_keys_are_the_same_for_every_run(events):
    """Done, killed, of an older version, without batches or a start: programs find all keys."""
    plain = strict(Report.from_events(events))

    assert set(plain) == {each.name for each in fields(Figures)} | COMPUTED


def test_what_was_not_measured_is_null():
    """Neither zero nor NaN stands for what nobody knows."""
    plain = strict(Report.from_events(EVENTS[1:2]))
    nothing = strict(Report.from_events([START]))

    assert plain["breakdown"] is None
    assert nothing["latency"]["p99_s"] is None
    assert (nothing["throughput_per_s"], nothing["tokens_per_s"]) == (None, None)
    assert (nothing["balance_of_records"], nothing["balance_of_busy_time"]) == (None, None)


def test_the_breakdown_is_in_it():
    """Parts, those of stages within, residue and categories, in seconds per record."""
    breakdown = strict(Report.from_events(MEASURED))["breakdown"]

    assert (breakdown["num_records"], breakdown["latency_s"]) == (4, 2.5)
    assert set(breakdown) == {
        "num_records", "latency_s", "parts", "residue_s", "residue_share", "categories",
    }  # fmt: skip
    generate = next(part for part in breakdown["parts"] if part["name"] == "generate")
    assert set(generate) == {"name", "seconds", "meaning", "is_stage", "parts"}
    assert generate["parts"][0]["name"] == "slot"
    assert breakdown["categories"]["queue wait"] == pytest.approx(0.6)
    assert breakdown["residue_share"] == pytest.approx(0.0)
