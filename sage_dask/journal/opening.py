"""Which store a run folder has, or gets."""

from __future__ import annotations

from pathlib import Path

from sage_dask.journal.place import file_system, is_networked
from sage_dask.journal.segments import SegmentStore
from sage_dask.journal.sqlite_store import SqliteStore
from sage_dask.journal.store import JournalError, Store

_DATABASE = "journal.db"
_SEGMENTS = "journal"


def has_journal(folder: Path) -> bool:
    """Return whether a run was begun in a folder."""
    return (folder / _DATABASE).exists() or (folder / _SEGMENTS).is_dir()


def keeps_segments(folder: Path) -> bool:
    """Return whether the journal of a folder is plain files; of a new one, whether it will be."""
    is_new = not (folder / _DATABASE).exists()
    return (folder / _SEGMENTS).is_dir() or (is_new and is_networked(file_system(folder)))


def open_store(folder: Path, *, read_only: bool = False) -> Store:
    """Open the store of a run folder; a new one is made as its file system allows.

    Args:
        folder: Of the run.
        read_only: To look while another process may write.

    Raises:
        JournalError: It can not be opened, or is not there and only to be read.
    """
    if read_only and not has_journal(folder):
        raise JournalError(
            f"run folder {str(folder)!r} holds no journal; it is made by a run with run_dir"
        )
    if keeps_segments(folder):
        segments = folder / _SEGMENTS
        segments.mkdir(exist_ok=True)
        return SegmentStore(segments, read_only=read_only)
    return SqliteStore(folder / _DATABASE, read_only=read_only)
