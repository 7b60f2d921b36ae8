"""``sage-dask report``: what a run cost, counted again from its events, in the form one needs."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

import click

from sage_dask.breakdown import explained
from sage_dask.cli.examples import example
from sage_dask.cli.output import note, print_json
from sage_dask.cli.streams import say
from sage_dask.durable.run_events import run_events
from sage_dask.errors import PlanError, RunError
from sage_dask.report import Report, ReportBuilder, categories, tables
from sage_dask.report.comparison import Comparison
from sage_dask.report.comparison_tables import comparison_lines, comparison_tables
from sage_dask.report.html import comparison_page, report_page
from sage_dask.report.latex import latex
from sage_dask.report.series import Series, SeriesBuilder
from sage_dask.report.table import Table
from sage_dask.report.text import lines

# Points of a plot: on a phone more of them would run into each other.
_MOST_POINTS = 60


@click.command(
    epilog=example(
        "sage-dask report runs/rag",
        "sage-dask report runs/rag --html report.html",
        "sage-dask report runs/new --against runs/old",
    )
)
@click.argument("run_dir", metavar="RUN_DIR")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@click.option("--latex", "as_latex", is_flag=True, help="Print it as LaTeX tables (booktabs).")
@click.option("--html", "page", metavar="FILE", help="Write it as one HTML file, with plots.")
@click.option("--against", metavar="RUN_DIR", help="Compare with another run.")
@click.option(
    "--explain",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=lambda ctx, _, given: _explain(ctx) if given else None,
    help="Say what the rows of the breakdown mean, and exit.",
)
def report(
    run_dir: str, as_json: bool, as_latex: bool, page: str | None, against: str | None
) -> None:
    """Print the report of a run from its folder, or from its events file.

    All starts of the run count.  One that goes on, or was killed, is reported as far as it came.
    """
    if as_json and as_latex:
        raise PlanError("--json and --latex both print to standard output; give one of them")
    counted, series = _counted(Path(run_dir))
    if against is None:
        _show(counted, series, run_dir, page, as_json=as_json, as_latex=as_latex)
    else:
        other = Report.from_events(run_events(Path(against)))
        comparison = Comparison(run_dir, counted, against, other)
        _show_comparison(comparison, page, as_json=as_json, as_latex=as_latex)
    if counted.outcome == "running":
        note("unfinished: the events have no end, so the run goes on or was killed")


def _counted(path: Path) -> tuple[Report, Series]:
    """Count a run, and how it went over time, in one pass over its events."""
    builder, over_time = ReportBuilder(), SeriesBuilder()
    for event in run_events(path):
        builder.add(event)
        over_time.add(event)
    return builder.report(), over_time.series(_MOST_POINTS)


def _show(
    counted: Report,
    series: Series,
    run_dir: str,
    page: str | None,
    *,
    as_json: bool,
    as_latex: bool,
) -> None:
    if as_json:
        print_json(counted.as_dict())
    elif as_latex:
        _print_latex(_published(counted), f"sage-dask report {shlex.quote(run_dir)} --latex")
    elif page is None:
        say("\n".join(lines(counted, in_full=True)))
    if page is not None:
        _write(page, report_page(counted, series))


def _show_comparison(
    comparison: Comparison, page: str | None, *, as_json: bool, as_latex: bool
) -> None:
    names = f"{shlex.quote(comparison.name)} --against {shlex.quote(comparison.against_name)}"
    if as_json:
        print_json(comparison.as_dict())
    elif as_latex:
        _print_latex(comparison_tables(comparison), f"sage-dask report {names} --latex")
    elif page is None:
        say("\n".join(comparison_lines(comparison)))
    if page is not None:
        _write(page, comparison_page(comparison))


def _published(counted: Report) -> list[Table]:
    """Return the tables that papers show."""
    return [
        tables.summary_table(counted),
        tables.categories_table(counted),
        tables.stages_table(counted),
    ]


def _print_latex(shown: list[Table], command: str) -> None:
    say(latex(shown, command))


def _write(path: str, page: str) -> None:
    try:
        Path(path).write_text(page, encoding="utf-8")
    except OSError as error:
        raise RunError(
            f"the page can not be written to {path!r} ({error.strerror}); give --html a file in a "
            "folder that is there and may be written to"
        ) from error
    note(f"written: {path}")


def _explain(ctx: click.Context) -> None:
    say("\n".join(_explanation()))
    ctx.exit()


def _explanation() -> Iterator[str]:
    """Yield what the rows of a breakdown mean, and the categories that they fold into."""
    rows = explained()
    width = max(len(name) for name, _ in rows)
    yield "Parts of the latency, per record that was written; they add up to it:"
    yield from (f"  {name:<{width}}  {meaning}" for name, meaning in rows)
    yield "Parts of a stage, indented, are those of stages that ask model servers."
    yield ""
    yield "Categories of the SAGE evaluation, in JSON and LaTeX:"
    yield from (f"  {name:<{width}}  {text}" for name, text in categories.MEANINGS.items())
