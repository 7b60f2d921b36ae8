"""The rows of jobs: as many columns as the screen is wide, and the rest on a line of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.cells import cell_len
from rich.text import Text

from sage_dask.dashboard.board import LOST, PAUSED, SILENT
from sage_dask.metrics import duration, in_short
from sage_dask.printable import plain
from sage_dask.progress.cells import DIM, Cell, Column, header, row, total_width, words
from sage_dask.progress.cells import bar as bar_of
from sage_dask.progress.overview import JobRow
from sage_dask.progress.words import DONE, amount, count, done_of, rate, time_of
from sage_dask.standing import RUNNING

_RATE = Column("rate", 9)
_LEFT = Column("left", 8)
_ELAPSED = Column("elapsed", 8)
_FAILED = Column("failed", 7)
_P50 = Column("P50", 8)
_P99 = Column("P99", 8)
_TOKENS = Column("tokens", 6)
_COST = Column("cost", 8)

# Beside name and bar, by the width that they need; what is left out has a line of its own.
_WIDE = (Column("records", 18), _RATE, _LEFT, _ELAPSED, _P50, _P99, _FAILED, _TOKENS, _COST)
_MEDIUM = (Column("records", 18), _RATE, _LEFT, _ELAPSED, _FAILED)
_NARROW = (Column("records", 15), _RATE, _LEFT, _ELAPSED)
_TINY = (Column("records", 13), _LEFT)

# Of these only what there is.
_DETAILS = (_P50, _P99, _FAILED, _TOKENS, _COST)

_NAME_CELLS = (8, 24)
_BAR_CELLS = (6, 24)

_STYLES = {RUNNING: "", DONE: "green", PAUSED: "yellow", SILENT: "yellow", LOST: "red"}


def job_lines(jobs: Sequence[JobRow], width: int, *, has_details: bool = True) -> Iterator[Text]:
    """Yield a row per job, below their titles.

    Args:
        jobs: In the order in which they are shown.
        width: Of the screen.
        has_details: Whether a line below each job tells what has no column.
    """
    figures, has_bar = _chosen(width)
    columns = _columns(jobs, figures, width, has_bar=has_bar)
    yield header(columns)
    for job in jobs:
        yield row(columns, [_cell(job, column) for column in columns])
        if has_details:
            details = _details(job, figures)
            if details:
                yield words(f"  {details}", width)
        ended = _ended(job)
        if ended:
            yield words(f"  {ended}", width, "red")


def _chosen(width: int) -> tuple[Sequence[Column], bool]:
    """Return the figures that fit beside a name, and whether a bar does, too."""
    for figures, has_bar in ((_WIDE, True), (_MEDIUM, True), (_NARROW, False)):
        beside = _NAME_CELLS[0] + 2 + (_BAR_CELLS[0] + 2 if has_bar else 0)
        if total_width(figures) + beside <= width:
            return figures, has_bar
    return _TINY, False


def _columns(
    jobs: Sequence[JobRow], figures: Sequence[Column], width: int, *, has_bar: bool
) -> list[Column]:
    least, most = _NAME_CELLS
    longest = max((cell_len(plain(job.name)) for job in jobs), default=0)
    room = width - total_width(figures) - 2 - (2 if has_bar else 0)
    bar_least = _BAR_CELLS[0] if has_bar else 0
    name = Column("job", max(1, min(max(longest, least), most, room - bar_least)), is_left=True)
    if not has_bar:
        return [name, *figures]
    bar = Column("", min(room - name.width, _BAR_CELLS[1]), is_left=True)
    return [name, bar, *figures]


def _cell(job: JobRow, column: Column) -> Cell:
    progress, width = job.progress, column.width
    match column.title:
        case "job":
            return plain(job.name), "bold"
        case "":
            return _bar(job, width)
        case "records":
            return done_of(progress.num_read, progress.expected, width), ""
        case "rate":
            return rate(job.rate), ""
        case "left":
            return _left(job)
        case "elapsed":
            return time_of(job.elapsed_s), ""
        case "P50":
            return _latency(job, 50), ""
        case "P99":
            return _latency(job, 99), ""
        case "failed":
            return count(progress.num_failed, width), "red" if progress.num_failed else DIM
        case "tokens":
            return in_short(progress.tokens) if progress.tokens else "", ""
        case _:
            return amount(progress.cost), ""


def _details(job: JobRow, figures: Sequence[Column]) -> str:
    """Return the figures without a column, as words, where there is something to say."""
    hidden = [column for column in _DETAILS if column not in figures]
    told = [(column.title, _cell(job, column)[0]) for column in hidden]
    if job.progress.num_filtered:
        told.append(("filtered", f"{job.progress.num_filtered:,}"))
    return "   ".join(f"{title} {figure}" for title, figure in told if figure not in ("", "0"))


def _latency(job: JobRow, percent: int) -> str:
    """Return a percentile; nothing before anything was written."""
    report = job.progress.report
    if report is None or not report.latency.num_records:
        return ""
    return duration(report.latency.p50_s if percent == 50 else report.latency.p99_s)


def _bar(job: JobRow, width: int) -> Cell:
    expected = job.progress.expected
    if expected is None:
        return "", ""
    share = job.progress.num_read / expected if expected else 1.0
    return bar_of(share, width), "green" if job.state in (RUNNING, DONE) else "yellow"


def _left(job: JobRow) -> Cell:
    if job.state == RUNNING:
        return ("-" if job.eta_s is None else time_of(job.eta_s)), ""
    return (job.state, _STYLES[job.state]) if job.state in _STYLES else ("stopped", "red")


def _ended(job: JobRow) -> str:
    """Return why a job ended before its time; nothing for all others."""
    report = job.progress.report
    if job.state in _STYLES or report is None:
        return ""
    return plain(f"{job.state}: {report.message}" if report.message else job.state)
