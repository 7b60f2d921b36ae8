"""Stores of every kind, and what a store holds as plain values."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from sage_dask.journal.entries import FORMAT, Entry, Memo
from sage_dask.journal.segments import SegmentStore
from sage_dask.journal.sqlite_store import SqliteStore
from sage_dask.journal.store import Store


class Contents(NamedTuple):
    """All that a store tells."""

    entries: list[Entry]
    memos: list[Memo]
    events: list[bytes]
    facts: dict[str, str]


# Every kind of store, opened in a folder.
_STORES: dict[str, Callable[..., Store]] = {
    "sqlite": lambda folder, **options: SqliteStore(folder / "journal.db", **options),
    "segments": lambda folder, **options: SegmentStore(folder / "journal", **options),
}


def _contents(store: Store) -> Contents:
    """Return all that a store tells, after checking that it does not contradict itself."""
    entries = list(store.entries())
    assert list(store.marks()) == [tuple(entry[:4]) for entry in entries]
    assert list(store.entries(failed_only=True)) == [each for each in entries if each.is_failed]
    assert store.counts() == (len(entries), sum(each.is_failed for each in entries))
    facts = {name: fact for name, fact in store.facts().items() if name != FORMAT}
    return Contents(entries, list(store.memos()), list(store.events()), facts)


def _entry(seq: int, record_id: str | None = "", /, **changes: Any) -> Entry:
    """Return an entry that differs from those of other places; its id is its place."""
    record_id = str(seq) if record_id == "" else record_id
    return Entry(seq, record_id, b"%08d" % seq, False, b"body %d" % seq)._replace(**changes)


@pytest.fixture(scope="session")
def contents() -> Callable[[Store], Contents]:
    """Lend the function that reads a whole store."""
    return _contents


@pytest.fixture(scope="session")
def entry() -> Callable[..., Entry]:
    """Lend the function that makes an entry of a place."""
    return _entry


@pytest.fixture(params=_STORES, scope="session")
def open_in(request: pytest.FixtureRequest) -> Callable[..., Store]:
    """Lend the function that opens a store of one kind in a folder."""
    return _STORES[request.param]


@pytest.fixture
def store(open_in: Callable[..., Store], tmp_path: Path) -> Iterator[Store]:
    """Lend an empty store."""
    opened = open_in(tmp_path)
    yield opened
    opened.close()
