"""The latest decisions of the dispatcher, and why."""

from __future__ import annotations

from sage_dask.dashboard.page import words
from sage_dask.dashboard.page.html import Column, Row, clipped, panel, table
from sage_dask.dashboard.snapshot import Snapshot
from sage_dask.markup import Html, element

MOST_ROWS = 10

_COLUMNS = (Column("When"), Column("Job"), Column("Stage"), Column("Node"), Column("Why"))


def render(snapshot: Snapshot) -> Html:
    """Return where tasks were placed, the latest first."""
    latest = snapshot.scheduling.latest if snapshot.scheduling is not None else ()
    if not latest:
        return panel("Latest decisions", element("p", "none yet", class_="quiet"))
    rows = [
        Row(
            [
                words.ago(snapshot.now_s - decision.at_s),
                clipped(decision.job, 60),
                clipped(decision.stage, 60),
                clipped(decision.node, 60),
                clipped(decision.reason),
            ]
        )
        for decision in list(latest)[: -MOST_ROWS - 1 : -1]
    ]
    return panel("Latest decisions", table(_COLUMNS, rows, narrow="lines"))
