"""The plots: throughput and latency over time, and bars of where the latency went."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import nan

from bokeh.core.properties import value
from bokeh.models import (
    ColumnDataSource,
    CustomJSTickFormatter,
    FixedTicker,
    GlyphRenderer,
    HoverTool,
    Range1d,
)
from bokeh.plotting import figure

from sage_dask.dashboard.board import MOST_POINTS, JobView
from sage_dask.dashboard.page import series
from sage_dask.dashboard.page.breakdown import LABEL, SEGMENT, Bars
from sage_dask.dashboard.page.slots import Slots
from sage_dask.dashboard.page.theme import GRID, JOBS, NEUTRAL

_FONT = "system-ui, sans-serif"
_BAR_PX = 46
_LEAST_PX = 46

_SINCE = """
const s = Math.round(range.end - tick)
return s < 1 ? "now" : s % 60 ? `${s} s ago` : `${s / 60} min ago`
"""
_SECONDS = """
return tick >= 1 ? `${+tick.toPrecision(3)} s` : `${+(1000 * tick).toPrecision(3)} ms`
"""


def plot(**options: object) -> figure:
    """Return an empty plot that reads on any ground."""
    made = figure(
        tools="",
        toolbar_location=None,
        sizing_mode="stretch_width",
        background_fill_color=None,
        border_fill_color=None,
        outline_line_color=None,
        min_border=4,
        **options,
    )
    made.axis.axis_line_color = None
    made.axis.major_tick_line_color = None
    made.axis.minor_tick_line_color = None
    made.axis.major_label_text_color = NEUTRAL
    made.axis.major_label_text_font_size = "11px"
    made.axis.major_label_text_font = _FONT
    made.xgrid.grid_line_color = None
    made.ygrid.grid_line_color = GRID
    made.ygrid.grid_line_alpha = 0.25
    return made


class TimePlots:
    """Two plots over one time axis, a line per job in each, of a fixed number of jobs."""

    def __init__(self) -> None:
        self._slots = Slots(series.MOST_JOBS)
        self._sources = [
            ColumnDataSource({name: list(v) for name, v in series.columns(()).items()})
            for _ in range(series.MOST_JOBS)
        ]
        self._drawn: list[tuple[str, float]] = [("", nan)] * series.MOST_JOBS
        """Job and time of the last point of each line."""
        self._range = Range1d(0.0, 60.0)
        self._ticker = FixedTicker(ticks=[])
        self.throughput = self._plot()
        self._latencies = Range1d(0.1, 10.0)
        self.latency = self._plot(y_axis_type="log", y_range=self._latencies)
        self.throughput.y_range.start = 0
        self.throughput.yaxis.ticker.desired_num_ticks = 4
        self._latency_ticker = FixedTicker(ticks=[])
        self.latency.yaxis.ticker = self._latency_ticker
        self.latency.yaxis.formatter = CustomJSTickFormatter(code=_SECONDS)
        self._lines = [self._draw(place) for place in range(series.MOST_JOBS)]
        rates, latencies = [line[0] for line in self._lines], [line[1:] for line in self._lines]
        self.throughput.add_tools(_hover(rates, ("records/s", "@rate{0,0.0}")))
        percentiles = ("P50", "@p50{0,0.000} s"), ("P99", "@p99{0,0.000} s")
        self.latency.add_tools(_hover([line for pair in latencies for line in pair], *percentiles))

    def _plot(self, **options: object) -> figure:
        made = plot(height=190, x_range=self._range, **options)
        made.xaxis.ticker = self._ticker
        made.xaxis.formatter = CustomJSTickFormatter(args={"range": self._range}, code=_SINCE)
        return made

    def _draw(self, place: int) -> Sequence[GlyphRenderer]:
        source, look = self._sources[place], {"color": JOBS[place], "line_width": 2}
        rate = self.throughput.line("at", "rate", source=source, **look)
        p50 = self.latency.line("at", "p50", source=source, **look)
        p99 = self.latency.line("at", "p99", source=source, line_dash="dashed", **look)
        p99.glyph.line_width = 1.2
        return rate, p50, p99

    def update(self, jobs: Sequence[JobView], now_s: float) -> Mapping[str, str]:
        """Draw what is new; return the colour of each job that has lines.

        Args:
            jobs: All jobs, the most important first.
            now_s: Where the time axis ends.
        """
        places = self._slots.assign(job.name for job in jobs if job.points)
        shown = [job for job in jobs if job.name in places]
        for job in shown:
            self._show(places[job.name], job)
        for place in {*range(series.MOST_JOBS)} - {*places.values()}:
            self._clear(place)
        window = series.window(shown, now_s)
        if window is not None:
            self._range.update(start=window.start_s, end=window.end_s)
            self._ticker.ticks = list(window.ticks)
            axis = series.latency_axis(shown, window.start_s)
            self._latencies.update(start=axis.least_s, end=axis.most_s)
            self._latency_ticker.ticks = list(axis.ticks)
        return {name: JOBS[place] for name, place in places.items()}

    def _show(self, place: int, job: JobView) -> None:
        name, last_s = self._drawn[place]
        if name != job.name:
            self._sources[place].data = dict(series.columns(job.points))
            for line in self._lines[place]:
                line.name = job.name
        else:
            new = series.newer(job.points, last_s)
            if not new:
                return
            self._sources[place].stream(dict(series.columns(new)), rollover=MOST_POINTS)
        self._drawn[place] = job.name, job.points[-1].at_s

    def _clear(self, place: int) -> None:
        if self._drawn[place][0]:
            self._sources[place].data = dict(series.columns(()))
            self._drawn[place] = "", nan


class BreakdownPlot:
    """Bars of shares, with words above each."""

    def __init__(self) -> None:
        self._shown = Bars({}, {})
        self._segments = ColumnDataSource({name: [] for name in SEGMENT})
        self._labels = ColumnDataSource({name: [] for name in LABEL})
        self._range = Range1d(0.0, 1.0)
        self.figure = plot(height=_LEAST_PX, x_range=Range1d(0.0, 1.0), y_range=self._range)
        self.figure.axis.visible = False
        self.figure.ygrid.visible = False
        bars = self.figure.hbar(
            y="y",
            left="left",
            right="right",
            height=0.42,
            color="colour",
            line_color=None,
            source=self._segments,
        )
        self.figure.text(
            x=0.0,
            y="y",
            text="text",
            y_offset=-13,
            text_color=NEUTRAL,
            text_font=value(_FONT),
            text_font_size="12px",
            text_baseline="bottom",
            source=self._labels,
        )
        said = [("part", "@part"), ("mean", "@ms ms"), ("share", "@share"), ("", "@meaning")]
        self.figure.add_tools(HoverTool(renderers=[bars], tooltips=said))

    def show(self, bars: Bars) -> None:
        """Draw bars, if they are others than those that are drawn."""
        if bars == self._shown:
            return
        if bars.num_bars != self._shown.num_bars:
            self.figure.height = max(_LEAST_PX, _BAR_PX * bars.num_bars)
            # Downwards, the first bar at the top, with room for its words.
            self._range.update(start=bars.num_bars - 0.68, end=-0.68)
        self._segments.data = dict(bars.segments)
        self._labels.data = dict(bars.labels)
        self._shown = bars


def _hover(renderers: Sequence[GlyphRenderer], *said: tuple[str, str]) -> HoverTool:
    return HoverTool(renderers=list(renderers), tooltips=[("job", "$name"), *said])
