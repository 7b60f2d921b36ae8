"""The journal of one run: lock, store and thread together."""

from __future__ import annotations

import threading

import pytest

from sage_dask.journal.entries import EPOCH, Entry, Group
from sage_dask.journal.journal import Journal
from sage_dask.journal.lock import holder
from sage_dask.journal.opening import open_store
from sage_dask.journal.store import JournalError


def entry(seq):
    """Return an entry of a place."""
    return Entry(seq, f"id{seq}", b"12345678", False, b"body")


def seqs(folder):
    """Return the places that a closed journal holds."""
    store = open_store(folder, read_only=True)
    try:
        return [mark.seq for mark in store.marks()]
    finally:
        store.close()


def test_what_was_put_is_there_after_the_end(tmp_path):
    """Closing commits what waits, and the folder is made where it was not."""
    folder = tmp_path / "new" / "run"
    journal = Journal(folder)
    for seq in range(100):
        journal.put(Group([entry(seq)]), lambda error: None)

    journal.close()

    assert seqs(folder) == list(range(100))


def test_whoever_put_a_group_is_told_that_it_is_safe(tmp_path):
    """By then it can be read, also by others."""
    journal = Journal(tmp_path)
    seen, is_told = [], threading.Event()

    def done(error):
        seen.append((error, [mark.seq for mark in journal.store.marks()]))
        is_told.set()

    journal.put(Group([entry(7)]), done)
    assert is_told.wait(60)
    journal.close()

    assert seen == [(None, [7])]


def test_a_commit_comes_behind_all_that_was_put(tmp_path):
    """When it returns, everything before it is safe as well."""
    journal = Journal(tmp_path)
    journal.put(Group([entry(0)], facts={"a": "put"}), lambda error: None)

    journal.commit(Group([entry(1)], facts={"a": "committed"}))

    assert [mark.seq for mark in journal.store.marks()] == [0, 1]
    assert journal.store.facts()["a"] == "committed"
    journal.close()


def test_places_are_forgotten_and_renumbered_behind_all_that_was_put(tmp_path):
    """Groups that still waited are not spared."""
    journal = Journal(tmp_path)
    for seq in range(4):
        journal.put(Group([entry(seq)]), lambda error: None)
    journal.forget([1, 2], Group(facts={"forgot": "yes"}))
    journal.renumber([(0, 10), (3, 0)], Group(facts={"moved": "yes"}))
    facts = dict(journal.store.facts())
    journal.close()

    assert seqs(tmp_path) == [0, 10]
    assert (facts["forgot"], facts["moved"]) == ("yes", "yes")


def test_a_run_has_one_journal_at_a_time(tmp_path):
    """The second one is refused with who holds the run, and the first one stays whole."""
    journal = Journal(tmp_path)

    with pytest.raises(JournalError, match=r"is in use by process \d+"):
        Journal(tmp_path)
    journal.commit(Group([entry(0)]))
    journal.close()

    assert holder(tmp_path) is None
    assert seqs(tmp_path) == [0]


def test_each_start_has_the_next_number(tmp_path):
    """It is in the store before anything else, and so is known after a crash."""
    epochs = []
    for _ in range(3):
        journal = Journal(tmp_path)
        epochs.append((journal.epoch, journal.store.facts()[EPOCH]))
        journal.close()

    assert epochs == [(1, "1"), (2, "2"), (3, "3")]


def test_a_journal_that_can_not_be_opened_lets_go_of_the_run(tmp_path):
    """Whoever mends the file finds the folder free."""
    (tmp_path / "journal.db").write_bytes(b"no database at all, but some text\n" * 100)

    with pytest.raises(JournalError):
        Journal(tmp_path)

    assert holder(tmp_path) is None


def test_a_folder_that_can_not_be_made_is_told(tmp_path):
    """A file in its place is named, with what to do."""
    (tmp_path / "file").touch()

    with pytest.raises(JournalError, match=r"file/run' can not be made .*; give another run_dir"):
        Journal(tmp_path / "file" / "run")


def test_a_later_start_elsewhere_ends_this_one(tmp_path):
    """Where locks do not hold, whoever came later has the run, and the earlier one is told so."""
    journal = Journal(tmp_path)
    other = open_store(tmp_path)
    other.begin()
    other.close()

    with pytest.raises(JournalError):
        journal.commit(Group([entry(0)]))
    with pytest.raises(JournalError):
        journal.close()

    assert holder(tmp_path) is None
    assert seqs(tmp_path) == []
    assert repr(journal) == f"<Journal {str(tmp_path)!r}, start 1>"
