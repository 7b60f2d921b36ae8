"""``sage-dask report``: what a run cost, counted again from its events."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import click

from sage_dask.cli.examples import example
from sage_dask.cli.output import note, print_report
from sage_dask.durable.run_folder import EVENTS, stored_events
from sage_dask.errors import PlanError
from sage_dask.event_file import read_events
from sage_dask.events import Event
from sage_dask.journal.opening import has_journal, open_store
from sage_dask.report import Report


@click.command(epilog=example("sage-dask report runs/rag"))
@click.argument("run_dir", metavar="RUN_DIR")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def report(run_dir: str, as_json: bool) -> None:
    """Print the report of a run from its folder, or from its events file.

    All starts of the run count.  One that goes on, or was killed, is reported as far as it came.
    """
    counted = report_of(Path(run_dir))
    print_report(counted, as_json=as_json)
    if counted.outcome == "running":
        note("unfinished: the events have no end, so the run goes on or was killed")


def report_of(path: Path) -> Report:
    """Count the events of a run folder's journal, of a folder without one, or of a file.

    Raises:
        PlanError: There is no such file, or no event in it.
        SageError: A line of it is no event, or the journal can not be read.
    """
    if has_journal(path):
        return _of_journal(path)
    file = path / EVENTS if path.is_dir() else path
    if not file.is_file():
        raise PlanError(
            f"there are no events at {str(file)!r}; give the folder that --run-dir named"
        )
    return _count(file, read_events(file))


def _of_journal(folder: Path) -> Report:
    store = open_store(folder, read_only=True)
    try:
        return _count(folder, stored_events(store, folder))
    finally:
        store.close()


def _count(path: Path, events: Iterator[Event]) -> Report:
    first = next(events, None)
    if first is None:
        raise PlanError(f"{str(path)!r} holds no event yet; the run has not begun")
    return Report.from_events(chain([first], events))
