"""A report as one file of HTML: it opens without a network, on a phone, in the dark, on paper."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files

from sage_dask.breakdown import Breakdown
from sage_dask.errors import counted
from sage_dask.markup import Html, element, joined
from sage_dask.metrics import duration, in_short, money
from sage_dask.report import tables
from sage_dask.report.comparison import Comparison
from sage_dask.report.comparison_tables import comparison_tables
from sage_dask.report.figures import Figures
from sage_dask.report.markup import section, swatch, table_element
from sage_dask.report.plots import plots
from sage_dask.report.rows import Row, few_rows
from sage_dask.report.series import Series
from sage_dask.report.table import Table
from sage_dask.report.verdict import verdict

# As many colours as the style sheet has for parts, and the one of what is left.
_NUM_COLOURS = 11
_GREY = 11


def report_page(figures: Figures, series: Series) -> str:
    """Return the page of one run.

    Args:
        figures: What was counted.
        series: How it went over time.
    """
    head, drawn = plots(series)
    colours = _colours([figures.breakdown])
    breakdown = tables.breakdown_table(figures)
    body = joined(
        _header(figures),
        _tiles(figures),
        section(
            breakdown.title,
            _bar("", figures.breakdown, figures.breakdown.latency_s, colours),
            table_element(breakdown, colours) or element("p", _not_measured(breakdown.note)),
        ),
        section("Over time", drawn),
        _section(tables.stages_table(figures)),
        _section(tables.nodes_table(figures)),
        section("Failures", *map(table_element, _failures(figures))),
        section("Model servers", *map(table_element, _asked(figures))),
        _section(tables.startup_table(figures)),
        _section(tables.conditions_table(figures)),
    )
    return _page(f"{figures.pipeline} · {figures.job}", body, head)


def comparison_page(comparison: Comparison) -> str:
    """Return the page of two runs side by side."""
    both = [comparison.figures.breakdown, comparison.against.breakdown]
    colours = _colours(both)
    longest_s = max(breakdown.latency_s for breakdown in both)
    first, *more = verdict(comparison)
    figures, parts, conditions = comparison_tables(comparison)
    body = joined(
        element("header", element("h1", f"{comparison.name} against {comparison.against_name}")),
        element("p", first, class_="verdict"),
        *(element("p", sentence) for sentence in more),
        section(
            parts.title,
            _bar(comparison.name, both[0], longest_s, colours),
            _bar(comparison.against_name, both[1], longest_s, colours),
            table_element(parts, colours),
        ),
        _section(figures),
        _section(conditions),
    )
    return _page(f"{comparison.name} against {comparison.against_name}", body, Html(""))


def _page(title: str, body: Html, head: Html) -> str:
    style = files("sage_dask.report").joinpath("page.css").read_text(encoding="utf-8")
    # Nothing may be fetched, whatever a name in the page looks like.
    policy = (
        "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
        "img-src data: blob:; font-src data:"
    )
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"{element('title', title)}<style>{style}</style>{head}</head>"
        f"<body><main>{body}</main></body></html>\n"
    )


def _section(table: Table) -> Html:
    return section(table.title, table_element(table))


def _header(figures: Figures) -> Html:
    state = "good" if figures.is_done else "bad"
    if figures.outcome == "running":
        state = "open"
    said = f"job {figures.job} · {figures.runner}"
    starts = f" · start {figures.num_starts}" if figures.num_starts > 1 else ""
    began = f" · {figures.started_at}" if figures.started_at else ""
    message = element("p", figures.message, class_="message") if figures.message else Html("")
    title = element("h1", figures.pipeline, " ", element("span", figures.outcome, class_=state))
    return element("header", title, element("p", said + starts + began, class_="note"), message)


def _tiles(figures: Figures) -> Html:
    tiles = [
        element(
            "div",
            element("b", value),
            element("span", name),
            element("small", more),
            class_="tile",
        )
        for name, value, more in _tile_texts(figures)
    ]
    return element("div", *tiles, class_="tiles")


def _tile_texts(figures: Figures) -> Iterator[tuple[str, str, str]]:
    """Yield what the tiles say: name, value, and a word more."""
    latency = figures.latency
    rate = f"{figures.throughput:,.1f}/s" if figures.is_timed else "-"
    dropped = f", {figures.num_filtered:,} filtered" if figures.num_filtered else ""
    yield "records written", f"{figures.num_written:,}", f"of {figures.num_read:,} read{dropped}"
    yield "failed", f"{figures.num_failed:,}", counted(len(figures.failures), "kind")
    yield "throughput", rate, f"over {duration(figures.makespan_s)}" if figures.is_timed else ""
    yield "mean latency", duration(latency.mean_s), f"P50 {duration(latency.p50_s)}"
    yield "P99 latency", duration(latency.p99_s), f"of {latency.num_records:,} records"
    if figures.nodes and figures.is_timed:
        of = counted(len(figures.nodes), "node")
        yield "balance", f"{figures.balance_of_busy_time:.3f}", f"of busy time, {of}"
    if figures.usage.tokens:
        rate = f"{figures.tokens_per_s:,.0f}/s" if figures.is_timed else ""
        yield "tokens", in_short(figures.usage.tokens), rate
    if figures.usage.cost:
        yield "cost", money(figures.usage.cost), ""


def _failures(figures: Figures) -> list[Table]:
    return [tables.failures_table(figures), tables.last_failures_table(figures)]


def _asked(figures: Figures) -> list[Table]:
    return [tables.requests_table(figures), tables.calls_table(figures)]


def _not_measured(note: str) -> str:
    return note or "Not measured: no record was written."


def _colours(breakdowns: Sequence[Breakdown]) -> Mapping[str, int]:
    """Return a colour for each part that is large in one of the breakdowns, the same in all."""
    rows = [row for each in breakdowns for row in _segments(each)]
    names = [row.name for row in rows if not row.is_rest]
    return {name: number % _NUM_COLOURS for number, name in enumerate(dict.fromkeys(names))}


def _segments(breakdown: Breakdown) -> list[Row]:
    """Return the rows of a breakdown that its bar shows."""
    return [row for row in few_rows(breakdown, _NUM_COLOURS) if not row.is_sub_part]


def _bar(name: str, breakdown: Breakdown, longest_s: float, colours: Mapping[str, int]) -> Html:
    """Return a breakdown as a bar; nothing where it was not measured.

    Args:
        name: What stands above it; empty for nothing.
        breakdown: Where the latency went.
        longest_s: The latency that takes the whole width.
        colours: By name of the part.
    """
    if not breakdown.num_records or not longest_s:
        return Html("")
    segments = [
        element(
            "span",
            row.name if row.share > 0.1 else "",
            class_=f"c{colours.get(row.name, _GREY)}",
            style=f"width:{100 * row.seconds / longest_s:.3f}%",
            title=f"{row.name}: {duration(row.seconds)}, {row.share:.1%}",
        )
        for row in _segments(breakdown)
        # More was accounted for than passed: there is no width for that.
        if row.seconds > 0
    ]
    title = element("p", f"{name}: {duration(breakdown.latency_s)}") if name else Html("")
    legend = [
        element("span", swatch(colours.get(row.name, _GREY)), f"{row.name} {row.share:.1%}")
        for row in _segments(breakdown)
    ]
    return joined(
        title,
        element("div", *segments, class_="bar"),
        element("p", *legend, class_="legend"),
    )
