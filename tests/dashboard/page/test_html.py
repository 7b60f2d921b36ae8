"""Whatever is only text is escaped; tables say the same on narrow and on wide screens."""

from __future__ import annotations

from sage_dask.dashboard.page.html import MOST_CHARS, Column, Row, bar, clipped, panel, table

EVIL = "<img src=x onerror=alert(1)>"


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
