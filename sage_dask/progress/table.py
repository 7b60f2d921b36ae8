"""The whole table: jobs, their stages, gates and model servers, failures, notes.

A screen has only so many rows.  What matters least gives way first: stages fold
to one line per job, failures and notes to one line each, until all of it fits.
"""

from __future__ import annotations

import textwrap
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from rich.cells import cell_len
from rich.text import Text

from sage_dask.printable import plain
from sage_dask.progress.cells import DIM, Cell, Column, header, row, total_width, words
from sage_dask.progress.jobs import job_lines
from sage_dask.progress.overview import JobRow, Overview
from sage_dask.progress.stages import folded_stage_lines, stage_lines
from sage_dask.progress.words import count

_TITLE = "gates and servers"
_WIDE = (
    Column("limit", 7),
    Column("in flight", 9),
    Column("waiting", 7),
    Column("", 16, is_left=True),
)
# Where there is no more room; that a server is down, its note says, too.
_NARROW = _WIDE[:2]

_MOST_NAME_CELLS = 48


class _Detail(NamedTuple):
    """How much is told."""

    has_stages: bool = True
    has_folded_stages: bool = False
    has_details: bool = True
    has_loads: bool = True
    most_failures: int = 3
    note_lines: int = 3
    """That one note may take."""


# From all there is to what is shown in any case.
_DETAILS = (
    _Detail(),
    _Detail(has_stages=False, has_folded_stages=True),
    _Detail(has_stages=False, has_folded_stages=True, most_failures=1, note_lines=1),
    _Detail(False, True, has_details=False, most_failures=1, note_lines=1),
    _Detail(has_stages=False, has_details=False, most_failures=1, note_lines=1),
    _Detail(has_stages=False, has_details=False, has_loads=False, most_failures=0, note_lines=1),
)


def table(overview: Overview, width: int, height: int) -> list[Text]:
    """Return the table as lines.

    Args:
        overview: What to show.
        width: Cells that a line has at most.
        height: Lines at most.
    """
    lines: list[Text] = []
    for detail in _DETAILS:
        lines = list(_lines(overview, width, detail))
        if len(lines) <= height:
            break
    else:
        left_out = len(lines) - max(height, 1) + 1
        lines[max(height, 1) - 1 :] = [words(f"... and {left_out} lines more", width, DIM)]
    for line in lines:
        # Of a screen that is too narrow for any figures.
        line.truncate(width)
    return lines


def _lines(overview: Overview, width: int, detail: _Detail) -> Iterator[Text]:
    jobs = overview.jobs
    if overview.headline:
        yield words(plain(overview.headline), width, DIM)
    if jobs:
        yield from job_lines(jobs, width, has_details=detail.has_details)
    if detail.has_stages:
        yield from stage_lines(jobs, width)
    if detail.has_folded_stages:
        yield from folded_stage_lines(jobs, width)
    if detail.has_loads:
        yield from _load_lines(overview, width)
    yield from _failure_lines(jobs, width, detail.most_failures)
    yield from _note_lines(overview, width, detail.note_lines)


def _load_lines(overview: Overview, width: int) -> Iterator[Text]:
    """Yield a row per gate and model server."""
    rows: list[list[Cell]] = []
    for name, gate in overview.gates.items():
        limit = "none" if gate.limit is None else count(gate.limit, 7)
        state = ("closed", "yellow") if gate.limit == 0 else ("", "")
        rows.append(
            [(f"  {plain(name)}", ""), (limit, ""), (count(gate.held, 9), ""), ("", ""), state]
        )
    for endpoint, server in overview.servers.items():
        waiting = "" if server.waiting is None else count(server.waiting, 7)
        is_down = server.down_s is not None
        state = (f"down for {server.down_s:.0f} s", "red") if is_down else ("", "")
        rows.append(
            [
                (f"  {plain(endpoint)}", ""),
                (count(server.limit, 7), ""),
                (count(server.in_flight, 9), ""),
                (waiting, ""),
                state,
            ]
        )
    if rows:
        columns = _load_columns([cells[0][0] for cells in rows], width)
        yield header(columns)
        yield from (row(columns, cells[: len(columns)]) for cells in rows)


def _load_columns(names: Sequence[str], width: int) -> list[Column]:
    longest = min(max(cell_len(name) for name in [_TITLE, *names]), _MOST_NAME_CELLS)
    figures = _WIDE if len(_TITLE) + 2 + total_width(_WIDE) <= width else _NARROW
    room = width - total_width(figures) - 2
    return [Column(_TITLE, max(1, min(longest, room)), is_left=True), *figures]


def _failure_lines(jobs: Sequence[JobRow], width: int, most: int) -> Iterator[Text]:
    """Yield the latest failures, a few of each job."""
    told = [(job, job.progress.report.last_failures) for job in jobs if job.progress.report]
    failing = [(job, list(failures.items())) for job, failures in told if failures]
    each = max(1, most // max(1, len(failing)))
    lines = [
        f"{job.name}, {id_}: {what}" if len(jobs) > 1 else f"{id_}: {what}"
        for job, failures in failing
        for id_, what in failures[-each:]
    ]
    for line in lines[:most]:
        yield words(f"failed  {plain(line)}", width, "red")


def _note_lines(overview: Overview, width: int, most: int) -> Iterator[Text]:
    """Yield the notes, each on a few lines at most."""
    # What several jobs have to say, such as of a server that is down, is said once.
    whose = defaultdict(list)
    for job in overview.jobs:
        for note in job.progress.notes:
            whose[note].append(job.name)
    notes = [
        f"{names[0]}: {note}" if len(names) == 1 < len(overview.jobs) else note
        for note, names in whose.items()
    ]
    for note in [*notes, *overview.notes]:
        wrapped = textwrap.wrap(
            plain(note),
            max(width, 20),
            initial_indent="note    ",
            subsequent_indent=" " * len("note    "),
            max_lines=most,
            placeholder=" ...",
        )
        for line in wrapped:
            yield words(line, width, "yellow")
