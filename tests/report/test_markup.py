"""HTML from values."""

from __future__ import annotations

from sage_dask.report.markup import section, table_element
from sage_dask.report.table import Table


def test_a_table_says_what_was_not_measured():
    """A gap is words, a part of a stage is set in, the colour stands before its name."""
    rows = [("a<", "1"), ("  slot", None), ("total", "2")]

    made = table_element(Table("T", ("part", "ms"), rows, note="n&m"), {"a<": 3})

    assert '<i class="swatch c3"></i>a&lt;' in made
    assert '<td class="words sub">slot</td><td class="amount none">not measured</td>' in made
    assert '<tr class="total">' in made
    assert '<p class="note">n&amp;m</p>' in made


def test_what_has_no_content_has_no_heading():
    """A run without failures has no section of them."""
    assert section("Failures", table_element(Table("T", ("a",), []))) == ""
