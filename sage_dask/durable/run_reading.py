"""A run as it can be read by anybody: its events, and of a journal its rows.

Nothing here takes the folder or writes to it, so it may be read while the run goes on.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from pathlib import Path

from sage_dask.durable.run_folder import EVENTS, stored_events
from sage_dask.errors import PlanError
from sage_dask.event_file import read_events
from sage_dask.events import Event
from sage_dask.journal.lock import holder
from sage_dask.journal.opening import has_journal, open_store
from sage_dask.journal.rows import Row, unpack
from sage_dask.journal.store import Store


class RunReading:
    """One run, open for reading.

    Args:
        path: The run's folder, or its file of events.
        store: Its journal; None where it keeps none.
    """

    def __init__(self, path: Path, store: Store | None) -> None:
        self._path = path
        self._store = store

    def events(self) -> Iterator[Event]:
        """Yield the events of all starts; there is at least one.

        Raises:
            PlanError: There is no such file, or no event in it.
            SageError: A line of it is no event, or the journal can not be read.
        """
        events = self._file_events() if self._store is None else self._stored_events(self._store)
        first = next(events, None)
        if first is None:
            raise PlanError(f"{str(self._path)!r} holds no event yet; the run has not begun")
        return chain([first], events)

    def rows(self, ids: Collection[str]) -> Mapping[str, Row] | None:
        """Return what became of some records, by id; None where the run keeps no journal.

        Raises:
            JournalError: The journal can not be read.
        """
        if self._store is None:
            return None
        found: dict[str, Row] = {}
        for entry in self._store.entries():
            if entry.id is not None and entry.id in ids:
                found[entry.id] = unpack(entry)
                if len(found) == len(ids):
                    break
        return found

    @property
    def is_held(self) -> bool | None:
        """Whether a process runs it now; None where no journal is there to hold."""
        return None if self._store is None else holder(self._path) is not None

    def _stored_events(self, store: Store) -> Iterator[Event]:
        return stored_events(store, self._path)

    def _file_events(self) -> Iterator[Event]:
        file = self._path / EVENTS if self._path.is_dir() else self._path
        if not file.is_file():
            raise PlanError(
                f"there are no events at {str(file)!r}; give the folder that --run-dir named"
            )
        return read_events(file)


@contextmanager
def reading_run(path: Path) -> Iterator[RunReading]:
    """Lend a run that is open for reading.

    Args:
        path: Its folder, or its file of events.

    Raises:
        JournalError: Its journal can not be opened.
    """
    store = open_store(path, read_only=True) if has_journal(path) else None
    try:
        yield RunReading(path, store)
    finally:
        if store is not None:
            store.close()
