"""The events of a run, from wherever it left them: its journal, its folder, or a file."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from sage_dask.durable.run_folder import EVENTS, stored_events
from sage_dask.errors import PlanError
from sage_dask.event_file import has_events, read_events
from sage_dask.events import Event
from sage_dask.journal.opening import has_journal, open_store


def run_events(path: Path) -> Iterator[Event]:
    """Yield the events of a run folder's journal, of a folder without one, or of a file.

    Raises:
        PlanError: There is no such file, or no event in it.
        SageError: A line of it is no event, or the journal can not be read.
    """
    if has_journal(path):
        yield from _of_journal(path)
        return
    file = path / EVENTS if path.is_dir() else path
    if not has_events(file):
        raise PlanError(
            f"there are no events at {str(file)!r}; give the folder that --run-dir named"
        )
    yield from _some(file, read_events(file))


def _of_journal(folder: Path) -> Iterator[Event]:
    store = open_store(folder, read_only=True)
    try:
        yield from _some(folder, stored_events(store, folder))
    finally:
        store.close()


def _some(path: Path, events: Iterator[Event]) -> Iterator[Event]:
    """Yield events, of which there must be one."""
    first = next(events, None)
    if first is None:
        raise PlanError(f"{str(path)!r} holds no event yet; the run has not begun")
    yield from chain([first], events)
