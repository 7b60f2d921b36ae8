"""Where the latency went: bars to compare jobs, and the parts of the chosen one in figures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sage_dask.breakdown import Part
from sage_dask.dashboard.board import JobView
from sage_dask.dashboard.page import words
from sage_dask.dashboard.page.html import Column, Row, bar, clipped, is_short, panel, table
from sage_dask.dashboard.page.theme import PartColours
from sage_dask.markup import Child, Html, element

MOST_JOBS = 8
MOST_STAGES = 4
MOST_PARTS = 40

# Columns of what the plot draws.
SEGMENT = ("y", "left", "right", "colour", "part", "ms", "share", "meaning")
LABEL = ("y", "text")

_TITLE = "The latency in parts"

_COLUMNS = (
    Column("Part"),
    Column("ms", True, "mean per record that was written"),
    Column("Share", meaning="of the mean latency"),
    Column("What it is", is_spare=True),
)


@dataclass(frozen=True, slots=True)
class Bars:
    """What the plot draws: columns of its segments, and of the words above each bar."""

    segments: Mapping[str, Sequence[Any]]
    labels: Mapping[str, Sequence[Any]]

    @property
    def num_bars(self) -> int:
        """How many bars there are."""
        return len(self.labels.get("text", ()))


@dataclass(frozen=True, slots=True)
class _Bar:
    label: str
    parts: Sequence[Part]
    colour: Callable[[Part], str]


def bars(jobs: Sequence[JobView], chosen: str | None, colours: PartColours) -> Bars:
    """Return one bar per job, and one more per stage of the chosen job that asks model servers.

    Each bar is as long as the others: it shows shares, its words tell the whole.

    Args:
        jobs: All jobs, the most important first.
        chosen: The job whose stages are taken apart.
        colours: By part.
    """
    measured = [job for job in jobs if _parts(job)]
    shown = sorted(measured, key=lambda job: job.name != chosen)[:MOST_JOBS]
    colours.show(part.name for job in shown for part in _parts(job) if part.is_stage)
    segments: dict[str, list[Any]] = {name: [] for name in SEGMENT}
    labels: dict[str, list[Any]] = {name: [] for name in LABEL}
    for place, each in enumerate(_bars(shown, chosen, colours)):
        labels["y"].append(float(place))
        labels["text"].append(each.label)
        for segment in _segments(each, place):
            for name, value in zip(SEGMENT, segment, strict=True):
                segments[name].append(value)
    return Bars(segments, labels)


def _bars(jobs: Sequence[JobView], chosen: str | None, colours: PartColours) -> Iterator[_Bar]:
    for job in jobs:
        parts = _parts(job)
        mean = words.seconds(sum(part.seconds for part in parts))
        yield _Bar(f"{clipped(job.name, 36)}   {mean}", parts, colours.part)
        if job.name == chosen:
            asking = [part for part in parts if part.parts][:MOST_STAGES]
            for stage in asking:
                label = f"    in {clipped(stage.name, 28)}   {words.seconds(stage.seconds)}"
                yield _Bar(label, stage.parts, colours.of_calls)


def _segments(each: _Bar, place: int) -> Iterator[tuple[Any, ...]]:
    # A residue below nothing can not be drawn; the table tells it.
    parts = [part for part in each.parts[:MOST_PARTS] if part.seconds > 0]
    whole_s = sum(part.seconds for part in parts)
    left = 0.0
    for part in parts:
        share = part.seconds / whole_s
        said = (clipped(part.name, 60), words.milliseconds(part.seconds), words.fine_share(share))
        yield (float(place), left, left + share, each.colour(part), *said, part.meaning)
        left += share


def _parts(job: JobView) -> Sequence[Part]:
    report = job.progress.report
    return report.breakdown.parts if report is not None and report.breakdown.num_records else ()


def render(job: JobView, colours: PartColours) -> Html:
    """Return the parts of a job's mean latency, and what its model calls consist of."""
    report = job.progress.report
    if report is None or not _parts(job):
        none = element("p", "No record was written yet.", class_="quiet")
        return panel(_TITLE, none)
    told = report.breakdown
    rows = [
        row
        for part in told.parts
        for row in _rows(part, told.latency_s, colours)
        if part.is_stage or part.seconds
    ]
    aside = f"mean {words.seconds(told.latency_s)} over {told.num_records:,} records"
    return panel(
        _TITLE,
        table(_COLUMNS, rows[:MOST_PARTS], len(rows) - MOST_PARTS, narrow="table"),
        aside=aside,
    )


def _rows(part: Part, whole_s: float, colours: PartColours) -> Iterator[Row]:
    yield _row(part, whole_s, colours.part(part), "")
    for inner in part.parts:
        yield _row(inner, whole_s, colours.of_calls(inner), "inner")


def _row(part: Part, whole_s: float, colour: str, kind: str) -> Row:
    share = part.seconds / whole_s if whole_s else 0.0
    name = clipped(part.name, 60)
    swatch = element("i", class_="swatch", style=f"background:{colour}")
    cells: list[Child] = [
        element("span", swatch, name, class_="part short" if is_short(name) else "part"),
        words.milliseconds(part.seconds),
        element("span", bar(share), element("small", words.fine_share(share)), class_="beside"),
        element("span", part.meaning, class_="quiet"),
    ]
    return Row(cells, kind=kind)
