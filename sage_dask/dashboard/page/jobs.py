"""The table of jobs."""

from __future__ import annotations

import math
from collections.abc import Mapping

from sage_dask.dashboard.board import LOST, PAUSED, SILENT, JobView
from sage_dask.dashboard.page import words
from sage_dask.dashboard.page.html import Column, Row, bar, chip, clipped, panel, table
from sage_dask.dashboard.snapshot import Snapshot
from sage_dask.events import BUDGET
from sage_dask.markup import Child, Html, element
from sage_dask.metrics import in_short, money
from sage_dask.standing import RUNNING

# More rows than fit on a few screens help nobody; those that run come first.
MOST_ROWS = 24

COLUMNS = (
    Column("Job"),
    Column("State"),
    Column("Done", meaning="records that are done, of those that the source says it has"),
    Column("records/s", True, "records done per second, over the last ten seconds"),
    Column("To go", True, "at that rate, in minutes and seconds"),
    Column("P50", True, "median latency from admission to write, over the whole job"),
    Column("P99", True, "99th percentile of the latency, over the whole job"),
    Column("Failed", True, "records that failed"),
    Column("Tokens", True, "sent to and received from model servers"),
    Column("Cost", True, "of those tokens, at the prices of the pipeline"),
)

_KINDS = {RUNNING: "run", PAUSED: "warn", SILENT: "warn", LOST: "bad", "done": "good"}

# Selects the job that a row is of; the same for all rows, so nothing of a job is in it.
_CHOOSE = "Bokeh.documents[0].get_model_by_name('chosen-job').value = this.dataset.job"


def render(snapshot: Snapshot, chosen: str | None, colours: Mapping[str, str]) -> Html:
    """Return one row for each job.

    Args:
        snapshot: What is to be shown.
        chosen: The job that the panels below are about.
        colours: Of the jobs that have lines in the plots.
    """
    shown = snapshot.jobs[:MOST_ROWS]
    rows = [_row(job, job.name == chosen, colours.get(job.name)) for job in shown]
    return panel("Jobs", table(COLUMNS, rows, len(snapshot.jobs) - len(shown)))


def kind_of(state: str) -> str:
    """Return how a state looks: as it should be, worth a look, or wrong."""
    return _KINDS.get(state, "warn" if state == BUDGET else "bad")


def _row(job: JobView, is_chosen: bool, colour: str | None) -> Row:
    progress = job.progress
    latency = progress.report.latency if progress.report is not None else None
    p50_s, p99_s = (latency.p50_s, latency.p99_s) if latency else (math.nan, math.nan)
    cells: list[Child] = [
        _name(job, colour),
        chip(clipped(job.state, 40), kind_of(job.state)),
        _done(job),
        "" if job.is_over else words.rate(job.rate),
        "" if job.is_over else words.clock(job.eta_s),
        words.seconds(p50_s),
        words.seconds(p99_s),
        element("span", f"{progress.num_failed:,}", class_="bad" if progress.num_failed else ""),
        in_short(progress.tokens) if progress.tokens else "",
        money(progress.cost) if progress.cost else "",
    ]
    kinds = ["chosen"] * is_chosen + ["over"] * job.is_over
    return Row(cells, _note(job), " ".join(kinds))


def _name(job: JobView, colour: str | None) -> Html:
    swatch = element("i", class_="swatch", style=f"background:{colour or 'transparent'}")
    name = clipped(job.name, 80)
    choose = element("button", name, onclick=_CHOOSE, data_job=job.name, title="show this job")
    return element("span", swatch, choose, class_="job")


def _done(job: JobView) -> Html:
    progress = job.progress
    if not progress.expected:
        return element("span", element("span", f"{progress.num_read:,}"), class_="done")
    share, failed = (n / progress.expected for n in (progress.num_read, progress.num_failed))
    said = f"{progress.num_read:,} / {progress.expected:,}"
    percent = element("small", words.share(share))
    filled = bar(share - failed, kind=kind_of(job.state), second=failed)
    return element("span", filled, element("span", said, " ", percent), class_="done")


def _note(job: JobView) -> str:
    notes = list(job.progress.notes)
    if job.state == SILENT:
        notes.append(f"its driver has said nothing for {words.lasting(job.heard_s)}")
    if job.state == LOST:
        notes.append("its driver has left without a word; resume the run if it has a folder")
    if job.progress.report is not None and job.progress.report.message:
        notes.append(job.progress.report.message)
    return clipped(" · ".join(notes))
