"""What a journal's tables hold together, and the facts, which are one per name.

A page that loses its rows, or an older page among newer ones, reads well to SQLite.  So a
row of totals says how many rows each table has and what their checksums add up to; it
changes in the commit that changes them.
"""

from __future__ import annotations

import sqlite3
import zlib
from dataclasses import asdict, dataclass, field
from typing import Any

from sage_dask.journal import codec
from sage_dask.journal.store import CorruptJournalError

# The tables whose rows have checksums that are counted.
COUNTED = ("entries", "memos", "events", "facts")


def crc(*columns: Any) -> int:
    """Return the checksum of a row, which is that of its columns with their types."""
    return zlib.crc32(codec.encode_scalars(columns))


def text_bytes(text: str) -> bytes:
    """Return text as SQLite keeps it; its own texts have no lone surrogates."""
    return text.encode("utf-8", "surrogatepass")


def text_of(data: bytes) -> str:
    """Return what ``text_bytes`` was given."""
    return data.decode("utf-8", "surrogatepass")


@dataclass(slots=True)
class Totals:
    """What all tables hold together."""

    commits: int = 0
    failed: int = 0
    """Entries that failed."""
    rows: dict[str, int] = field(default_factory=lambda: dict.fromkeys(COUNTED, 0))
    """Per table."""
    sums: dict[str, int] = field(default_factory=lambda: dict.fromkeys(COUNTED, 0))
    """Per table, its rows' checksums added up."""

    def add(self, table: str, checksum: int) -> None:
        """Count a row that is new."""
        self.rows[table] += 1
        self.sums[table] += checksum

    def remove(self, table: str, checksum: int) -> None:
        """Count a row that is gone."""
        self.rows[table] -= 1
        self.sums[table] -= checksum


def read_totals(db: sqlite3.Connection) -> Totals:
    """Return the totals of the present transaction.

    Raises:
        CorruptJournalError: They are not what was written.
    """
    rows = db.execute("SELECT totals, crc FROM totals").fetchall()
    if len(rows) != 1 or crc("totals", rows[0][0]) != rows[0][1]:
        raise CorruptJournalError("its totals are not what was committed")
    return Totals(**codec.decode(rows[0][0]))


def write_totals(db: sqlite3.Connection, totals: Totals) -> None:
    """Write the totals in the present transaction."""
    packed = codec.encode(asdict(totals))
    db.execute("INSERT OR REPLACE INTO totals VALUES(0, ?, ?)", (packed, crc("totals", packed)))


def write_fact(db: sqlite3.Connection, totals: Totals, name: str, fact: str) -> None:
    """Write a fact in the present transaction, and count it."""
    row = (text_bytes(name), text_bytes(fact))
    for (old,) in db.execute("SELECT crc FROM facts WHERE name = ?", row[:1]):
        totals.remove("facts", old)
    db.execute("INSERT OR REPLACE INTO facts VALUES(?, ?, ?)", (*row, crc("facts", *row)))
    totals.add("facts", crc("facts", *row))


def read_facts(db: sqlite3.Connection) -> dict[str, str]:
    """Return all facts.

    Raises:
        CorruptJournalError: One is not what was committed.
    """
    facts = {}
    for name, fact, checksum in db.execute("SELECT name, fact, crc FROM facts"):
        if crc("facts", name, fact) != checksum:
            raise CorruptJournalError(f"its fact {name!r} is not what was committed")
        facts[text_of(name)] = text_of(fact)
    return facts
