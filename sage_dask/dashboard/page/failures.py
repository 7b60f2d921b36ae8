"""Records that failed lately, in the words of what failed."""

from __future__ import annotations

from collections.abc import Iterator

from sage_dask.dashboard.board import JobView
from sage_dask.dashboard.page.html import Column, Row, clipped, panel, table
from sage_dask.dashboard.snapshot import Snapshot
from sage_dask.markup import Html, element

MOST_ROWS = 10

# Of a job that is not the chosen one.
_MOST_OF_OTHERS = 3

_COLUMNS = (Column("Job"), Column("Record"), Column("What happened"))


def render(snapshot: Snapshot, chosen: str | None) -> Html:
    """Return the latest failures of the chosen job, then some of the others, the latest first."""
    jobs = sorted(snapshot.jobs, key=lambda job: job.name != chosen)
    rows = [
        Row([clipped(job.name, 60), clipped(record, 80), clipped(text)])
        for job in jobs
        for record, text in _latest(job, MOST_ROWS if job.name == chosen else _MOST_OF_OTHERS)
    ]
    total = sum(job.progress.num_failed for job in snapshot.jobs)
    if not rows:
        return panel("Latest failures", element("p", "no record has failed", class_="quiet"))
    return panel(
        "Latest failures",
        table(_COLUMNS, rows[:MOST_ROWS], narrow="lines"),
        aside=f"{total:,} in all",
    )


def _latest(job: JobView, most: int) -> Iterator[tuple[str, str]]:
    report = job.progress.report
    if report is not None:
        yield from list(report.last_failures.items())[: -most - 1 : -1]
