"""Answers in one SQLite file on a local disk, shared by the processes of a host.

Everything here blocks and raises; ``cache.py`` keeps both from those who ask.
The file is bounded: what was least recently used makes room.  A damaged file is
moved aside, never repaired and never deleted, for it may be somebody's.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

# "sage" in ASCII, so that another program's database is never taken for ours.
_APPLICATION_ID = 0x73616765
_VERSION = 1

# Transactions take milliseconds; who waits longer than this waits for something broken.
BUSY_S = 2.0
_LOCK_POLL_S = 0.01

# Use is noted once in a while, as file systems do, so that a hit is seldom a write.
TOUCH_AFTER_S = 3600
# What an entry takes beside its value: key, numbers, and its places in three trees.
_ENTRY_BYTES = 160
# Room for what comes next, so that not every group has to make some.
_EVICT_TO = 0.9

_SCHEMA = (
    """CREATE TABLE entries (
        id INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, value BLOB NOT NULL,
        bytes INTEGER NOT NULL, used_s INTEGER NOT NULL
    )""",
    "CREATE INDEX entries_by_use ON entries (used_s, id, bytes)",
    "CREATE TABLE total (entries INTEGER NOT NULL, bytes INTEGER NOT NULL)",
    "INSERT INTO total VALUES (0, 0)",
    """CREATE TRIGGER counted AFTER INSERT ON entries BEGIN
        UPDATE total SET entries = entries + 1, bytes = bytes + new.bytes;
    END""",
    """CREATE TRIGGER uncounted AFTER DELETE ON entries BEGIN
        UPDATE total SET entries = entries - 1, bytes = bytes - old.bytes;
    END""",
    f"PRAGMA application_id = {_APPLICATION_ID}",
    f"PRAGMA user_version = {_VERSION}",
)


class ForeignFileError(OSError):
    """The file is a database of another program, or of another version of this one."""


@dataclass(frozen=True, slots=True)
class CacheFacts:
    """What a cache holds."""

    num_entries: int
    num_bytes: int
    """By the cache's own count, which its bound is held against; the file may be larger."""
    first_used_s: float | None
    """When the entry that would go first was last used, in seconds since 1970."""


class CacheFile:
    """An open cache file; made if it is not there.  For one thread at a time.

    Args:
        path: The file; beside it stand its lock and SQLite's own files.
        max_bytes: Most bytes kept; the least recently used entries go first.
        clock: Seconds since 1970.

    Raises:
        ForeignFileError: It is not a file of this version of this program.
        OSError: The folder or the file can not be made, or another process holds it.
        sqlite3.Error: SQLite can not use it.
    """

    def __init__(
        self, path: Path, *, max_bytes: int, clock: Callable[[], float] = time.time
    ) -> None:
        self.path = path
        self._max_bytes = max_bytes
        self._clock = clock
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _alone(path):
            try:
                self._database = _opened(path)
            except sqlite3.DatabaseError as error:
                if not is_damaged(error):
                    raise
                _move_aside(path)
                self._database = _opened(path)
            self._inode = path.stat().st_ino

    def get(self, keys: Sequence[bytes]) -> Mapping[bytes, bytes]:
        """Return the values that are there, by key."""
        marks = ",".join("?" * len(keys))
        rows = self._database.execute(
            f"SELECT key, value, used_s FROM entries WHERE key IN ({marks})",  # noqa: S608 - marks
            keys,
        ).fetchall()
        now_s = int(self._clock())
        stale = [key for key, _, used_s in rows if now_s - used_s >= TOUCH_AFTER_S]
        if stale:
            # Whether it succeeds is no matter of who reads: another process may be writing.
            with suppress(sqlite3.OperationalError):
                self._touch(stale, now_s)
        return {key: value for key, value, _ in rows}

    def put(self, values: Mapping[bytes, bytes]) -> None:
        """Keep values in one transaction, and make room; a key that is there keeps its value."""
        now_s = int(self._clock())
        rows = [
            (key, value, len(value) + _ENTRY_BYTES, now_s)
            for key, value in values.items()
            if len(value) + _ENTRY_BYTES <= _EVICT_TO * self._max_bytes
        ]
        with _transaction(self._database):
            self._database.executemany(
                "INSERT INTO entries (key, value, bytes, used_s) VALUES (?, ?, ?, ?) "
                "ON CONFLICT (key) DO NOTHING",
                rows,
            )
            self._make_room()

    def remove(self, keys: Sequence[bytes]) -> None:
        """Forget entries, such as those whose value can not be read."""
        with _transaction(self._database):
            self._database.executemany(
                "DELETE FROM entries WHERE key = ?", [(key,) for key in keys]
            )

    def clear(self) -> int:
        """Forget everything, give the disk its room back, and return how many entries went."""
        with _transaction(self._database):
            num_entries = self.facts().num_entries
            self._database.execute("DELETE FROM entries")
        # Others that read or write at this moment may keep the room a while longer.
        with suppress(sqlite3.OperationalError):
            self._database.execute("VACUUM")
            self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return num_entries

    def facts(self) -> CacheFacts:
        """Return what it holds."""
        num_entries, num_bytes = self._database.execute("SELECT * FROM total").fetchone()
        (first,) = self._database.execute("SELECT min(used_s) FROM entries").fetchone()
        return CacheFacts(num_entries, num_bytes, first)

    def abandon(self) -> None:
        """Close a file that turned out to be damaged, and move it aside unless another did."""
        self.close()
        with _alone(self.path), suppress(FileNotFoundError):
            if self.path.stat().st_ino == self._inode:
                _move_aside(self.path)

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def _touch(self, keys: Sequence[bytes], now_s: int) -> None:
        with _transaction(self._database):
            self._database.executemany(
                "UPDATE entries SET used_s = ? WHERE key = ?", [(now_s, key) for key in keys]
            )

    def _make_room(self) -> None:
        (num_bytes,) = self._database.execute("SELECT bytes FROM total").fetchone()
        if num_bytes <= self._max_bytes:
            return
        excess = num_bytes - _EVICT_TO * self._max_bytes
        goes: list[tuple[int]] = []
        oldest = self._database.execute("SELECT id, bytes FROM entries ORDER BY used_s, id")
        with closing(oldest):
            for entry_id, size in oldest:
                if excess <= 0:
                    break
                goes.append((entry_id,))
                excess -= size
        self._database.executemany("DELETE FROM entries WHERE id = ?", goes)


def is_damaged(error: Exception) -> bool:
    """Return whether an error says that the file itself is broken."""
    code = getattr(error, "sqlite_errorcode", None)
    # Extended codes carry the plain one in their lowest byte.
    return code is not None and code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def _opened(path: Path) -> sqlite3.Connection:
    # Answers may be confidential: made here, the file is its owner's alone.
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    database = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
    try:
        if not database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            database.execute("PRAGMA journal_mode = WAL")
            with _transaction(database):
                for statement in _SCHEMA:
                    database.execute(statement)
        _check_ours(database, path)
        # A power cut may lose the last answers but damages nothing, which is all a cache needs.
        database.execute("PRAGMA synchronous = NORMAL")
        database.execute("PRAGMA journal_size_limit = 16777216")
    except BaseException:
        database.close()
        raise
    return database


@contextmanager
def _transaction(database: sqlite3.Connection) -> Iterator[None]:
    """Do all or nothing; the lock is taken first, as an upgrade later could deadlock."""
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
        database.execute("COMMIT")
    except BaseException:
        if database.in_transaction:
            database.execute("ROLLBACK")
        raise


def _check_ours(database: sqlite3.Connection, path: Path) -> None:
    (application_id,) = database.execute("PRAGMA application_id").fetchone()
    (version,) = database.execute("PRAGMA user_version").fetchone()
    if application_id != _APPLICATION_ID:
        raise ForeignFileError(f"{str(path)!r} is another program's database; name another file")
    if version != _VERSION:
        raise ForeignFileError(
            f"{str(path)!r} has the format of version {version}, and this is version {_VERSION}; "
            "remove it or name another file"
        )


def _move_aside(path: Path) -> None:
    """Rename a damaged file, and SQLite's files beside it, to a name that nothing has."""
    name = f"{path.name}.broken-{time.time_ns()}"
    for suffix in ("", "-wal", "-shm"):
        with suppress(FileNotFoundError):
            path.with_name(path.name + suffix).rename(path.with_name(name + suffix))


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Keep other processes from opening or moving the file meanwhile.

    Raises:
        TimeoutError: Another process held on to it.
    """
    lock = path.with_name(f"{path.name}.lock")
    handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        for _ in range(round(BUSY_S / _LOCK_POLL_S)):
            with suppress(BlockingIOError):
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            time.sleep(_LOCK_POLL_S)
        else:
            raise TimeoutError(f"another process has held {str(lock)!r} for {BUSY_S:g} s")
        yield
    finally:
        os.close(handle)
