"""A table as text."""

from __future__ import annotations

from sage_dask.report.table import Table, text_of


def test_columns_are_aligned_and_gaps_are_dashes():
    """Words are set left, amounts right, what was not measured is a dash, a note stands below."""
    rows = [("embed", "1.0", "fast"), ("  slot", None, None), ("x", "10.25", "slow")]

    text = list(text_of(Table("Parts", ("part", "ms", "note"), rows, words=(0, 2), note="So.")))

    assert text == [
        "Parts",
        "  part        ms   note",
        "  embed      1.0   fast",
        "    slot       -   -",
        "  x        10.25   slow",
        "  So.",
    ]
