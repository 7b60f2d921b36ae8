"""Plots of a page, drawn by Bokeh from the page itself: nothing is fetched."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from sage_dask.markup import Html, element, joined
from sage_dask.report.series import Point, Series

# Bokeh draws on a canvas, which knows no style sheet: one grey and colours that can be read on
# white and on near black alike.
_GREY = "#7d858f"
_BLUE, _ORANGE, _RED = "#3987c9", "#d9822b", "#d9534f"

_HEIGHT = 260


def plots(series: Series) -> tuple[Html, Html]:
    """Return what a page's head needs for plots, and the plots; nothing where there are no points.

    Args:
        series: Of the run.
    """
    if not series.points:
        return Html(""), Html("")
    from bokeh.embed import components
    from bokeh.resources import Resources

    figures = [_throughput(series), _latency(series), _distribution(series)]
    drawn = [(title, figure) for title, figure in figures if figure is not None]
    script, divs = components([figure for _, figure in drawn])
    # The widgets and tables that INLINE would bring along are three times as large, and not used.
    head = Resources(mode="inline", components=["bokeh"]).render()
    named = [
        element("figure", element("figcaption", title), Html(div), class_="plot")
        for (title, _), div in zip(drawn, divs, strict=True)
    ]
    return Html(head), joined(element("div", *named, class_="plots"), Html(script))


def _throughput(series: Series) -> tuple[str, Any]:
    points = series.points
    plot = _figure("s since the first read", "records/s")
    x, written = _steps(points, [point.rate for point in points])
    plot.varea(x=x, y1=[0.0] * len(x), y2=written, fill_color=_BLUE, fill_alpha=0.18)
    plot.line(x, written, color=_BLUE, line_width=2, legend_label="written")
    if any(point.num_failed for point in points):
        rates = [point.num_failed / (point.to_s - point.from_s) for point in points]
        plot.line(*_steps(points, rates), color=_RED, line_width=2, legend_label="failed")
    _mark_starts(plot, series.starts_s)
    plot.y_range.start = 0
    return "Throughput over time", _finished(plot)


def _latency(series: Series) -> tuple[str, Any]:
    measured = [point for point in series.points if not math.isnan(point.p50_s)]
    if not measured:
        return "", None
    plot = _figure("s since the first read", "latency, s")
    x = [(point.from_s + point.to_s) / 2 for point in measured]
    for name, colour, y in (
        ("P99", _ORANGE, [point.p99_s for point in measured]),
        ("P50", _BLUE, [point.p50_s for point in measured]),
    ):
        plot.line(x, y, color=colour, line_width=2, legend_label=name)
        plot.scatter(x, y, color=colour, size=4, legend_label=name)
    _mark_starts(plot, series.starts_s)
    plot.y_range.start = 0
    return "Latency, by the moment of the write", _finished(plot)


def _distribution(series: Series) -> tuple[str, Any]:
    if not series.distribution:
        return "", None
    plot = _figure("latency, s", "% of records")
    x = [seconds for seconds, _ in series.distribution]
    y = [100 * share for _, share in series.distribution]
    # From nobody at the shortest latency up to everybody at the longest.
    plot.step([x[0], *x], [0.0, *y], mode="after", color=_BLUE, line_width=2)
    return "Share of records that took no longer", _finished(plot)


def _figure(x: str, y: str) -> Any:
    from bokeh.plotting import figure

    plot = figure(
        height=_HEIGHT,
        sizing_mode="stretch_width",
        toolbar_location=None,
        tools="hover",
        tooltips=[(x, "@x{0.000}"), (y, "@y{0.000}")],
        x_axis_label=x,
        y_axis_label=y,
        background_fill_alpha=0.0,
        border_fill_alpha=0.0,
        outline_line_color=None,
    )
    for axis in plot.axis:
        axis.axis_line_color = axis.major_tick_line_color = _GREY
        axis.minor_tick_line_color = None
        axis.axis_label_text_color = axis.major_label_text_color = _GREY
        axis.axis_label_text_font_style = "normal"
    plot.grid.grid_line_color = _GREY
    plot.grid.grid_line_alpha = 0.25
    return plot


def _finished(plot: Any) -> Any:
    for legend in plot.legend:
        legend.orientation = "horizontal"
        legend.background_fill_alpha = legend.border_line_alpha = 0.0
        legend.label_text_color = _GREY
        legend.padding = legend.margin = 0
        plot.add_layout(legend, "above")
    return plot


def _mark_starts(plot: Any, starts_s: Sequence[float]) -> None:
    """Draw a line where the run was started again."""
    from bokeh.models.annotations import Span

    for start_s in starts_s:
        plot.add_layout(
            Span(location=start_s, dimension="height", line_color=_GREY, line_dash="dashed")
        )


def _steps(points: Sequence[Point], values: Sequence[float]) -> tuple[list[float], list[float]]:
    """Return a line that keeps each value from the beginning of its stretch to the end."""
    x = [at_s for point in points for at_s in (point.from_s, point.to_s)]
    return x, [value for value in values for _ in range(2)]
