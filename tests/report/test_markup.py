"""HTML from values."""

from __future__ import annotations

from sage_dask.report.markup import Html, element, section, table_element
from sage_dask.report.table import Table


def test_whatever_is_no_html_is_escaped():
    """Content and attributes of users can not close an element or open one."""
    made = element("p", "<b>&", element("i", "'x'"), title='"><script>')

    assert made == ('<p title="&quot;&gt;&lt;script&gt;">&lt;b&gt;&amp;<i>&#x27;x&#x27;</i></p>')


def test_text_that_is_joined_to_html_stays_text():
    """Only what was made here counts as HTML, not what looks like it."""
    assert element("p", Html("<br>") + "<br>") == "<p>&lt;br&gt;&lt;br&gt;</p>"


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
