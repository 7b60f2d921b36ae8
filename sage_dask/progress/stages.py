"""What the stages of jobs do: a row each, or all of a job's on one line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.cells import cell_len
from rich.text import Text

from sage_dask.metrics import in_short
from sage_dask.printable import plain
from sage_dask.progress.cells import DIM, Cell, Column, header, row, total_width, words
from sage_dask.progress.overview import JobRow
from sage_dask.progress.words import count, milliseconds
from sage_dask.report import Report, StageCost

_OF_ALL = (Column("in", 7), Column("out", 7), Column("ms/record", 9), Column("busy", 5))
_OF_REQUESTS = (Column("requests", 8), Column("retries", 7), Column("tokens/s", 8))

_NAME_CELLS = (8, 24)


def stage_lines(jobs: Sequence[JobRow], width: int) -> Iterator[Text]:
    """Yield a row per stage, below their titles, in the order of the jobs and of their stages."""
    told = _told(jobs)
    if not told:
        return
    columns = _columns([report for _, report in told], width)
    yield header(columns)
    for job, report in told:
        if len(jobs) > 1:
            yield words(f"{plain(job.name)}:", width, DIM)
        busy_s = sum(stage.seconds for stage in report.stages.values())
        for name, stage in report.stages.items():
            cells = [(f"  {plain(name)}", ""), *_cells(stage, busy_s, report.makespan_s)]
            yield row(columns, cells[: len(columns)])


def folded_stage_lines(jobs: Sequence[JobRow], width: int) -> Iterator[Text]:
    """Yield one line per job with the stages that it is busy with, most of all the first."""
    for job, report in _told(jobs):
        whose = f"{plain(job.name)}: " if len(jobs) > 1 else ""
        busy_s = sum(stage.seconds for stage in report.stages.values())
        stages = sorted(report.stages.items(), key=lambda item: -item[1].seconds)
        shares = [
            f"{plain(name)} {_share(stage.seconds, busy_s)}"
            for name, stage in stages
            if stage.seconds >= 0.005 * busy_s
        ]
        yield words(f"  {whose}busy with {', '.join(shares)}", width, DIM)


def _told(jobs: Sequence[JobRow]) -> list[tuple[JobRow, Report]]:
    told = [(job, job.progress.report) for job in jobs]
    return [(job, report) for job, report in told if report is not None and report.stages]


def _columns(reports: Sequence[Report], width: int) -> list[Column]:
    least, most = _NAME_CELLS
    figures = list(_OF_ALL)
    sends = any(stage.usage.requests for report in reports for stage in report.stages.values())
    if sends and total_width([*_OF_ALL, *_OF_REQUESTS]) + 2 + least <= width:
        figures += _OF_REQUESTS
    longest = max(2 + cell_len(plain(name)) for report in reports for name in report.stages)
    room = width - total_width(figures) - 2
    return [
        Column("stage", max(1, min(max(longest, least), most, room)), is_left=True),
        *figures,
    ]


def _cells(stage: StageCost, busy_s: float, makespan_s: float) -> list[Cell]:
    """Return the figures of a stage, in the order of the columns."""
    usage = stage.usage
    figures = [
        (count(stage.records_in, 7), ""),
        (count(stage.records_out, 7), ""),
        (milliseconds(stage.ms_per_record), ""),
        (_share(stage.seconds, busy_s), ""),
    ]
    if not usage.requests:
        return [*figures, ("", ""), ("", ""), ("", "")]
    per_s = usage.tokens / makespan_s if makespan_s else 0.0
    return [
        *figures,
        (count(usage.requests, 8), ""),
        (count(usage.retries, 7), "yellow" if usage.retries else DIM),
        (in_short(per_s), ""),
    ]


def _share(seconds: float, of_s: float) -> str:
    return f"{seconds / of_s:.0%}" if of_s else "-"
