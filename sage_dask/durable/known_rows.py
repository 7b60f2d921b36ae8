"""What the journal of a run has of a few records; anybody may ask, also while the run goes on."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from sage_dask.journal.opening import has_journal, open_store
from sage_dask.journal.rows import Row, unpack


def known_rows(folder: Path, ids: Collection[str]) -> Mapping[str, Row] | None:
    """Return what became of some records, by id; None where the run keeps no journal.

    Args:
        folder: Of the run; a file of its events has no journal.
        ids: As the records were read.

    Raises:
        JournalError: The journal can not be read.
    """
    if not has_journal(folder):
        return None
    store = open_store(folder, read_only=True)
    try:
        found: dict[str, Row] = {}
        for entry in store.entries():
            if entry.id is not None and entry.id in ids:
                found[entry.id] = unpack(entry)
                if len(found) == len(ids):
                    break
        return found
    finally:
        store.close()
