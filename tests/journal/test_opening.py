"""Which store a run folder has, or gets."""

from __future__ import annotations

import pytest

from sage_dask.journal import opening
from sage_dask.journal.opening import has_journal, open_store
from sage_dask.journal.segments import SegmentStore
from sage_dask.journal.sqlite_store import SqliteStore
from sage_dask.journal.store import JournalError


@pytest.fixture
def networked(monkeypatch):
    """Have every folder lie on a network file system."""
    monkeypatch.setattr(opening, "file_system", lambda folder: "nfs4")


def kind_of(folder, **options):
    """Return the kind of store that a folder opens."""
    store = open_store(folder, **options)
    store.close()
    return type(store)


def test_a_local_disk_gets_a_database(tmp_path):
    """It is one file, and the folder then holds a journal."""
    before = has_journal(tmp_path)

    assert kind_of(tmp_path) is SqliteStore
    assert (before, has_journal(tmp_path)) == (False, True)


def test_a_network_file_system_gets_segments(tmp_path, networked):
    """A database's index is shared memory, which machines do not share."""
    assert kind_of(tmp_path) is SegmentStore
    assert has_journal(tmp_path)


def test_a_journal_stays_what_it_is_wherever_it_is_moved(tmp_path, monkeypatch):
    """A folder that was copied from one file system to another goes on as it began."""
    for name, system, store in (("a", "ext4", SqliteStore), ("b", "nfs4", SegmentStore)):
        (tmp_path / name).mkdir()
        monkeypatch.setattr(opening, "file_system", lambda folder, system=system: system)
        assert kind_of(tmp_path / name) is store
    monkeypatch.setattr(opening, "file_system", lambda folder: "nfs4")
    assert kind_of(tmp_path / "a") is SqliteStore
    monkeypatch.setattr(opening, "file_system", lambda folder: "ext4")
    assert kind_of(tmp_path / "b", read_only=True) is SegmentStore


def test_looking_at_a_folder_without_a_journal_makes_none(tmp_path):
    """Reading is refused, and leaves the folder as it was."""
    with pytest.raises(JournalError, match="holds no journal; it is made by a run with run_dir"):
        open_store(tmp_path, read_only=True)

    assert list(tmp_path.iterdir()) == []
