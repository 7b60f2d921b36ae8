"""What one transaction does to the tables of a journal, and the rows that they give back."""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from sage_dask.journal.entries import Entry, Group, Mark, Memo
from sage_dask.journal.sqlite_totals import (
    Totals,
    crc,
    read_totals,
    text_bytes,
    text_of,
    write_fact,
    write_totals,
)
from sage_dask.journal.store import CorruptJournalError


class Head(NamedTuple):
    """A row of ``entries`` or ``memos``."""

    seq: int
    id: bytes | None
    digest: bytes
    is_failed: int
    body: int
    """Its key among the bodies."""
    body_crc: int
    task: bytes | None
    """None for entries."""
    crc: int

    @classmethod
    def of(cls, table: str, entry: Entry, body: int, task: str | None) -> Head:
        """Return the row for an entry, or for that of a memo."""
        record_id = None if entry.id is None else text_bytes(entry.id)
        columns = (
            entry.seq,
            record_id,
            entry.digest,
            int(entry.is_failed),
            body,
            zlib.crc32(entry.body),
            None if task is None else text_bytes(task),
        )
        return cls(*columns, crc(table, *columns))

    def checked(self, table: str) -> Head:
        """Return it.

        Raises:
            CorruptJournalError: It is not what was committed.
        """
        if crc(table, *self[:-1]) != self.crc:
            raise CorruptJournalError(f"place {self.seq} of its {table} is not what was committed")
        return self

    def moved(self, table: str, seq: int) -> Head:
        """Return it for another place."""
        columns = (seq, *self[1:-1])
        return Head(*columns, crc(table, *columns))

    @property
    def mark(self) -> Mark:
        """The entry without its body."""
        record_id = None if self.id is None else text_of(self.id)
        return Mark(self.seq, record_id, self.digest, bool(self.is_failed))

    def entry(self, body: Any) -> Entry:
        """Return the entry with its body.

        Raises:
            CorruptJournalError: The body is not what was committed.
        """
        if type(body) is not bytes or zlib.crc32(body) != self.body_crc:
            raise CorruptJournalError(
                f"what came of place {self.seq} ({self.mark.id!r}) is not what was committed"
            )
        return Entry(*self.mark, body)

    def memo(self, body: Any) -> Memo:
        """Return the memo with its body.

        Raises:
            CorruptJournalError: The body is not what was committed.
        """
        return Memo(text_of(self.task or b""), self.entry(body))


def marks_of(table: str, page: Iterable[Sequence[Any]]) -> list[Mark]:
    """Return ``Head(*row).checked(table).mark`` of each row, in half the time.

    A run that goes on reads all there are.

    Raises:
        CorruptJournalError: One is not what was committed.
    """
    marks = []
    for row in page:
        *columns, checksum = row
        if crc(table, *columns) != checksum:
            raise CorruptJournalError(f"place {row[0]} of its {table} is not what was committed")
        seq, record_id, digest, is_failed, *_ = columns
        name = None if record_id is None else text_of(record_id)
        marks.append(Mark(seq, name, digest, is_failed != 0))
    return marks


def check_event(seq: int, found: Any, line: Any, checksum: Any) -> None:
    """Raise ``CorruptJournalError`` unless a row of ``events`` is the one of a place."""
    if found != seq or crc("events", found, line) != checksum:
        raise CorruptJournalError(f"its event {seq} is missing or not what was committed")


class Transaction:
    """Changes the tables, and keeps the totals.

    Args:
        db: In a transaction, which the caller ends.

    Raises:
        CorruptJournalError: The totals are not what was committed.
    """

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self.totals: Totals = read_totals(db)
        (self._last_body,) = db.execute("SELECT ifnull(max(key), 0) FROM bodies").fetchone()

    def add(self, group: Group) -> None:
        """Add a group, and write the totals."""
        for entry in group.entries:
            self._add_entry(entry)
        for memo in group.memos:
            self._add_memo(memo)
        for line in group.events:
            self._add_event(line)
        for name, fact in group.facts.items():
            write_fact(self._db, self.totals, name, fact)
        self.totals.commits += 1
        write_totals(self._db, self.totals)

    def forget(self, places: Iterable[int]) -> None:
        """Remove entries and memos."""
        for seq in places:
            self._remove("entries", seq)
            self._remove("memos", seq)

    def renumber(self, places: Iterable[tuple[int, int]]) -> None:
        """Give entries and memos other places.

        Raises:
            sqlite3.IntegrityError: Two would share one.
        """
        for old, new in places:
            for table in ("entries", "memos"):
                for head in self._heads(table, old):
                    self._move(table, head, new)
        # Below zero first, or a place would be taken by one that has yet to leave it.
        for table in ("entries", "memos"):
            self._db.execute(f"UPDATE {table} SET seq = -1 - seq WHERE seq < 0")  # noqa: S608

    def _add_entry(self, entry: Entry) -> None:
        head = Head.of("entries", entry, self._last_body + 1, None)
        added = self._db.execute(
            "INSERT INTO entries VALUES(?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING", head
        )
        if added.rowcount:
            self._add_body(entry.body)
            self.totals.add("entries", head.crc)
            self.totals.failed += entry.is_failed
            self._remove("memos", entry.seq)

    def _add_memo(self, memo: Memo) -> None:
        seq = memo.entry.seq
        if self._db.execute("SELECT 1 FROM entries WHERE seq = ?", (seq,)).fetchone():
            return
        self._remove("memos", seq)
        head = Head.of("memos", memo.entry, self._last_body + 1, memo.stage)
        self._db.execute("INSERT INTO memos VALUES(?, ?, ?, ?, ?, ?, ?, ?)", head)
        self._add_body(memo.entry.body)
        self.totals.add("memos", head.crc)

    def _add_body(self, body: bytes) -> None:
        self._last_body += 1
        self._db.execute("INSERT INTO bodies VALUES(?, ?)", (self._last_body, body))

    def _add_event(self, line: bytes) -> None:
        row = (self.totals.rows["events"], line)
        checksum = crc("events", *row)
        self._db.execute("INSERT INTO events VALUES(?, ?, ?)", (*row, checksum))
        self.totals.add("events", checksum)

    def _remove(self, table: str, seq: int) -> None:
        for head in self._heads(table, seq):
            self._db.execute(f"DELETE FROM {table} WHERE seq = ?", (seq,))  # noqa: S608
            self._db.execute("DELETE FROM bodies WHERE key = ?", (head.body,))
            self.totals.remove(table, head.crc)
            if table == "entries":
                self.totals.failed -= head.is_failed

    def _move(self, table: str, head: Head, seq: int) -> None:
        moved = head.moved(table, seq)
        self._db.execute(
            f"UPDATE {table} SET seq = ?, crc = ? WHERE seq = ?",  # noqa: S608
            (-1 - seq, moved.crc, head.seq),
        )
        self.totals.remove(table, head.crc)
        self.totals.add(table, moved.crc)

    def _heads(self, table: str, seq: int) -> list[Head]:
        """Return the row of a place, if any."""
        rows = self._db.execute(f"SELECT * FROM {table} WHERE seq = ?", (seq,))  # noqa: S608
        return [Head(*row).checked(table) for row in rows.fetchall()]
