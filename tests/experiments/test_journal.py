"""Tests of what the journal's cost is measured by."""

from __future__ import annotations

from sage_dask.experiments import journal


def test_the_section_yields_rows_with_a_ratio(monkeypatch):
    """Commits, two runs and a resume each have a figure, and one to hold it against."""
    for name, small in {"COMMITTED": 128, "CHEAP": 50, "CALLS": 8, "FINISHED": 1000}.items():
        monkeypatch.setattr(journal, f"NUM_{name}", small)
    monkeypatch.setattr(journal, "CALL_S", 0.02)

    rows = list(journal.journal())

    assert len(rows) == 5
    assert all(row.what and row.measured and row.baseline and row.ratio > 0 for row in rows)
