"""Whatever is only text is escaped; tables say the same on narrow and on wide screens."""

from __future__ import annotations

from sage_dask.dashboard.page.html import (
    MOST_CHARS,
    Column,
    Html,
    Row,
    bar,
    clipped,
    element,
    joined,
    panel,
    table,
)

EVIL = "<img src=x onerror=alert(1)>"


def test_text_is_escaped_and_elements_are_not():
    """So an element within an element is one, and a name that looks like one is a name."""
    made = element("td", EVIL, element("b", "1 & 2"))

    assert made == "<td>&lt;img src=x onerror=alert(1)&gt;<b>1 &amp; 2</b></td>"


def test_attributes_can_not_be_left_by_quotes():
    """A name in an attribute stays there."""
    made = element("button", "x", data_job='"><script>')

    assert made == '<button data-job="&quot;&gt;&lt;script&gt;">x</button>'


def test_attributes_that_are_empty_are_left_out():
    """So panels need no conditions."""
    assert element("tr", class_="", hidden=False) == "<tr></tr>"


def test_text_that_was_added_to_markup_by_hand_counts_as_text():
    """The sum of markup and text is text: escaped once too often, never too seldom."""
    assert joined(Html("<b>") + EVIL) == "&lt;b&gt;&lt;img src=x onerror=alert(1)&gt;"


def test_long_texts_of_users_are_cut():
    """And end in a sign that they were."""
    cut = clipped("x" * 10_000)

    assert len(cut) == MOST_CHARS
    assert cut.endswith("…")
    assert clipped("short") == "short"


def test_a_bar_stays_within_its_frame():
    """Whatever share it is told."""
    assert "width:100.0%" in bar(7.0)
    assert "width:0.0%" in bar(-1.0)


def test_each_figure_of_a_table_has_its_name_with_it():
    """Which cards show on a narrow screen; an empty one is marked, to take no room there."""
    made = table([Column("Job"), Column("Cost", True)], [Row(["rag", ""])])

    assert '<td class="short" data-label="Job">rag</td>' in made
    assert '<td class="number empty short" data-label="Cost"></td>' in made


def test_rows_that_are_left_out_are_counted():
    """Nobody takes a part for the whole."""
    assert "and 1,200 more" in table([Column("Job")], [Row(["rag"])], left_out=1200)
    assert "more" not in table([Column("Job")], [Row(["rag"])], left_out=-3)


def test_a_panels_words_are_text():
    """Also those beside its heading."""
    assert panel("a<b", aside="<i>") == "<h2>a&lt;b<small>&lt;i&gt;</small></h2>"
