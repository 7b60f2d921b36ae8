"""A report as one file of HTML."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from sage_dask.events import JobFinished
from sage_dask.report import Report
from sage_dask.report.comparison import Comparison
from sage_dask.report.html import comparison_page, report_page
from sage_dask.report.series import SeriesBuilder
from tests.report.building import EVENTS, MEASURED, START, measured

ODD = "<script>alert(1)</script>\"'&"
VOID = {"meta", "br", "link", "input"}


class Outline(HTMLParser):
    """Reads a page: its elements, its text, what it would fetch, and whether it is well formed."""

    def __init__(self, page):
        super().__init__()
        self.open, self.tags, self.text, self.fetched = [], [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.fetched += [value for name, value in attrs if name in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not self.open or self.open[-1] not in ("script", "style"):
            self.text.append(data)


def page_of(events):
    """Return the page of some events."""
    series = SeriesBuilder()
    for event in events:
        series.add(event)
    return report_page(Report.from_events(events), series.series())


@pytest.fixture(scope="module")
def page():
    """Lend the page of a run with failures, requests and plots."""
    failed = measured(1, failed=1)
    return page_of(
        [replace(START, command="sage-dask run p.yaml"), measured(0), failed, EVENTS[-1]]
    )


def test_a_page_is_whole_and_fetches_nothing(page):
    """Every element is closed, scripts and styles are in the page, policy forbids the rest."""
    outline = Outline(page)

    assert outline.open == []
    assert outline.fetched == []
    assert "default-src 'none'" in page
    assert "prefers-color-scheme: dark" in page
    assert 'name="viewport"' in page
    assert "@media print" in page


def test_a_page_shows_all_there_is(page):
    """Each part of a report has its section."""
    outline = Outline(page)
    text = " ".join(outline.text)

    for heading in (
        "Where the latency went",
        "Over time",
        "Stages",
        "Nodes",
        "Failures",
        "Model servers",
        "Start-up",
        "Conditions",
    ):
        assert heading in outline.text
    for words in ("q-1-0", "embed: ValueError: <b>&", "sage-dask run p.yaml", "server queue"):
        assert words in text
    assert outline.tags.count("figure") == 3


@pytest.mark.parametrize(
    "events", [EVENTS, EVENTS[:2], [START], EVENTS[1:2], [], [START, JobFinished("E", "<i>why")]]
)
def test_every_run_has_a_page(events):
    """Older, killed, empty: what was not measured is said, and no NaN is drawn."""
    outline = Outline(page_of(events))

    assert outline.open == []
    assert any("not measured" in text.lower() for text in outline.text)
    assert not re.search(r"\bnan\b", " ".join(outline.text), re.IGNORECASE)


def test_a_run_that_was_started_again_has_its_starts_marked():
    """The plot of a run that went on draws where."""
    assert "dashed" in page_of([*MEASURED[:2], START, measured(0, elapsed_s=1.0)])


def test_what_users_name_is_text():
    """Pipelines, nodes, stages, ids, messages and commands can not become elements."""
    start = replace(
        START,
        pipeline=ODD,
        job=ODD,
        runner=ODD,
        nodes=[ODD],
        stages=[ODD],
        startup_s={ODD: 1.0},
        versions={ODD: ODD},
        output=ODD,
        policy=ODD,
        command=ODD,
    )
    batch = replace(measured(0, failed=1), failures={ODD: 1}, failed={ODD: ODD})
    events = [start, batch, JobFinished("RunError", ODD)]
    report = Report.from_events(events)

    pages = page_of(events), comparison_page(Comparison(ODD, report, ODD, report))

    for each in pages:
        assert "<script>alert" not in each
        assert "".join(Outline(each).text).count(ODD) > 1


@pytest.mark.parametrize("theirs", [MEASURED, EVENTS, []])
def test_two_runs_have_a_page(theirs):
    """The verdict stands first, and the latencies are bars of one scale."""
    ours = Report.from_events(MEASURED)

    made = comparison_page(Comparison("new", ours, "old", Report.from_events(theirs)))

    outline = Outline(made)
    assert outline.open == []
    assert outline.tags.count("script") == 0
    assert any(text.startswith("new against old, one run each") for text in outline.text)
    assert made.count('class="bar"') == (2 if theirs is MEASURED else 1)


def test_a_part_below_nothing_has_no_width():
    """A residue that is negative is in the table, and not in the bar."""
    ours = Report.from_events(MEASURED)
    parts = [
        replace(part, seconds=-0.5 if part.name == "residue" else part.seconds)
        for part in ours.breakdown.parts
    ]
    broken = replace(ours.breakdown, parts=tuple(parts))

    made = report_page(replace(ours, breakdown=broken), SeriesBuilder().series())

    assert "width:-" not in made
    assert "-500.000" in made
