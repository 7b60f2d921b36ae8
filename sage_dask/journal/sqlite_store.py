"""A journal in one SQLite file, for local disks.

Commits go to a write-ahead log that is synced each time; whoever reads meanwhile sees
whole commits.  Not for network file systems: the log's index is shared memory.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from sage_dask import failpoint
from sage_dask.errors import counted
from sage_dask.journal.entries import EPOCH, Entry, Group, Mark, Memo
from sage_dask.journal.high_water import HighWater, read_mark
from sage_dask.journal.sqlite_file import create, has_log, naming, open_checked
from sage_dask.journal.sqlite_tables import Head, Transaction, check_event, marks_of
from sage_dask.journal.sqlite_totals import read_facts, read_totals
from sage_dask.journal.store import CorruptJournalError, Counts, check_epoch

# Rows that are read at once: enough that finding the place costs little, and few enough
# that bodies of a megabyte fit into memory.
_MARKS_PER_PAGE = 2048
_BODIES_PER_PAGE = 64


class SqliteStore:
    """The journal in one file.

    One connection serves all threads, one at a time: a page of reading lasts less than a
    commit, and a connection per thread would outlive its thread.

    Args:
        path: Of the file; made if it is not there.
        read_only: To look while another process may write; the file must be there.

    Raises:
        JournalError: The file can not be opened, or is of another version.
        CorruptJournalError: It is damaged.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self._path = path
        self._epoch: int | None = None
        self._lock = threading.RLock()
        self._high_water: HighWater | None = None
        mark = path.with_name(f"{path.name}-commits")
        # Before the commits themselves, which another process may be making.
        acknowledged = read_mark(mark)
        with naming(path):
            if not read_only and not path.exists():
                create(path)
            self._db, num_commits = open_checked(path, read_only=read_only)
            try:
                _check_commits(num_commits, acknowledged, mark)
                if not read_only:
                    self._high_water = HighWater(mark, num_commits)
            except BaseException:
                self._db.close()
                raise

    def begin(self) -> int:
        """Begin one more start of the run."""
        with self._lock:
            self._epoch = int(self.facts().get(EPOCH, 0)) + 1
            self.commit(Group(facts={EPOCH: str(self._epoch)}))
            return self._epoch

    def commit(self, group: Group) -> None:
        """Make a group last."""
        self._write(group, lambda _: None)

    def forget(self, places: Iterable[int], group: Group) -> None:
        """Remove the entries and memos of some places and commit a group, in one go."""
        self._write(group, lambda transaction: transaction.forget(places))

    def renumber(self, places: Iterable[tuple[int, int]], group: Group) -> None:
        """Give entries and memos other places, and commit a group, in one go."""
        self._write(group, lambda transaction: transaction.renumber(places))

    def _write(self, group: Group, first: Callable[[Transaction], None]) -> None:
        with self._lock, naming(self._path):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                transaction = Transaction(self._db)
                check_epoch(read_facts(self._db), self._epoch, group)
                first(transaction)
                transaction.add(group)
                failpoint.reach("commit")
                self._db.execute("COMMIT")
                failpoint.reach("committed")
            except BaseException:
                # SQLite has rolled back by itself where the disk failed.
                with suppress(sqlite3.Error):
                    self._db.execute("ROLLBACK")
                raise
            if self._high_water is not None:
                self._high_water.raise_to(transaction.totals.commits)

    def marks(self, after: int = -1) -> Iterator[Mark]:
        """Yield the entries of places above ``after``, in order, without bodies."""
        while page := self._read(
            "SELECT * FROM entries WHERE seq > ? ORDER BY seq LIMIT ?", after, _MARKS_PER_PAGE
        ):
            with naming(self._path):
                marks = marks_of("entries", page)
            yield from marks
            after = marks[-1].seq

    def entries(self, *, failed_only: bool = False) -> Iterator[Entry]:
        """Yield the entries in the order of reading."""
        for head, body in self._with_bodies("entries", failed_only):
            # Told by the checked row, so that a damaged flag hides nothing.
            if head.is_failed or not failed_only:
                with naming(self._path):
                    entry = head.entry(body)
                yield entry

    def memos(self) -> Iterator[Memo]:
        """Yield the memos of places that have no entry, in the order of reading."""
        for head, body in self._with_bodies("memos", False):
            with naming(self._path):
                memo = head.memo(body)
            yield memo

    def _with_bodies(self, table: str, failed_only: bool) -> Iterator[tuple[Head, Any]]:
        after = -1
        while page := self._read(
            f"SELECT {table}.*, bodies.body FROM {table} "  # noqa: S608
            f"LEFT JOIN bodies ON key = {table}.body AND is_failed >= ? "
            "WHERE seq > ? ORDER BY seq LIMIT ?",
            int(failed_only),
            after,
            _BODIES_PER_PAGE,
        ):
            for *columns, body in page:
                with naming(self._path):
                    head = Head(*columns).checked(table)
                yield head, body
                after = head.seq

    def events(self) -> Iterator[bytes]:
        """Yield the events in the order in which they were committed."""
        seq = 0
        while page := self._read(
            "SELECT * FROM events WHERE seq >= ? ORDER BY seq LIMIT ?", seq, _MARKS_PER_PAGE
        ):
            for found, line, checksum in page:
                with naming(self._path):
                    check_event(seq, found, line, checksum)
                yield line
                seq += 1

    def facts(self) -> Mapping[str, str]:
        """Return what is known of the run as a whole."""
        with self._lock, naming(self._path):
            return read_facts(self._db)

    def counts(self) -> Counts:
        """Return how much there is."""
        with self._lock, naming(self._path):
            totals = read_totals(self._db)
        return Counts(totals.rows["entries"], totals.failed)

    def _read(self, query: str, *values: int) -> list[tuple[Any, ...]]:
        with self._lock, naming(self._path):
            return self._db.execute(query, values).fetchall()

    def close(self) -> None:
        """Let go of the files; what was committed lies in one file unless another process reads."""
        with self._lock:
            if self._high_water is None:
                self._db.close()
                return
            # What can not be moved out of the log stays safe in the log.
            with suppress(sqlite3.Error):
                self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            self._db.close()
            self._high_water.close(is_settled=not has_log(self._path))
            self._high_water = None


def _check_commits(num_found: int, num_acknowledged: int, mark: Path) -> None:
    """Raise ``CorruptJournalError`` where commits are missing that were acknowledged."""
    if num_found < num_acknowledged:
        raise CorruptJournalError(
            f"its last {counted(num_acknowledged - num_found, 'commit')} are missing; remove "
            f"{str(mark)!r} to go on without them, which does their records again"
        )
