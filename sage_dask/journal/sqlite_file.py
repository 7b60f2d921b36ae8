"""The SQLite file of a journal: made, opened, looked over, and its errors in our words.

Opening compares the tables with their totals, and has SQLite look at how they hang
together; that reads everything but the bodies.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from sage_dask.disk import sync_folder
from sage_dask.journal.entries import FORMAT
from sage_dask.journal.sqlite_totals import (
    COUNTED,
    Totals,
    read_facts,
    read_totals,
    write_fact,
    write_totals,
)
from sage_dask.journal.store import CorruptJournalError, JournalError

# Changes whenever a version of sage_dask before could not read what is written now.
_FORMAT_VERSION = "1"

# How long to wait for the lock of a database that another process looks at.
_BUSY_S = 5.0

_HEAD = (
    "seq INTEGER PRIMARY KEY, id BLOB{}, digest BLOB NOT NULL, is_failed INTEGER NOT NULL, "
    "body INTEGER NOT NULL, body_crc INTEGER NOT NULL, task BLOB, crc INTEGER NOT NULL"
)
# Bodies lie apart, so that places can be read and changed without moving what came of them.
_SCHEMA = {
    "entries": f"CREATE TABLE entries({_HEAD.format(' UNIQUE')})",
    "memos": f"CREATE TABLE memos({_HEAD.format('')})",
    "bodies": "CREATE TABLE bodies(key INTEGER PRIMARY KEY, body BLOB NOT NULL)",
    "events": (
        "CREATE TABLE events(seq INTEGER PRIMARY KEY, line BLOB NOT NULL, crc INTEGER NOT NULL)"
    ),
    "facts": (
        "CREATE TABLE facts(name BLOB PRIMARY KEY, fact BLOB NOT NULL, crc INTEGER NOT NULL) "
        "WITHOUT ROWID"
    ),
    "totals": (
        "CREATE TABLE totals(only INTEGER PRIMARY KEY, totals BLOB NOT NULL, crc INTEGER NOT NULL)"
    ),
}


def create(path: Path) -> None:
    """Make the file of an empty journal; it is there whole, or not at all."""
    if has_log(path):
        raise CorruptJournalError("its log is there, and the file itself is not")
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)
    with closing(_connect(new, "mode=rwc")) as db:
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("BEGIN IMMEDIATE")
        for statement in _SCHEMA.values():
            db.execute(statement)
        totals = Totals()
        write_fact(db, totals, FORMAT, _FORMAT_VERSION)
        write_totals(db, totals)
        db.execute("COMMIT")
    new.rename(path)
    sync_folder(path.parent)


def open_checked(path: Path, *, read_only: bool) -> tuple[sqlite3.Connection, int]:
    """Open a journal's file, look it over, and return how many commits it holds.

    Bodies are checked where they are read.

    Raises:
        JournalError: It can not be opened, or is of another version.
        CorruptJournalError: It is not what was committed.
        sqlite3.Error: The same, said by SQLite.
    """
    if not read_only:
        return _open_as(path, "mode=rw")
    *others, last = _ways(path)
    for way in others:
        with suppress(sqlite3.OperationalError):
            return _open_as(path, way, query_only=True)
    return _open_as(path, last, query_only=True)


def has_log(path: Path) -> bool:
    """Return whether commits lie in the log, and not yet in the journal's file."""
    log = Path(f"{path}-wal")
    return log.exists() and log.stat().st_size > 0


def _ways(path: Path) -> list[str]:
    """Return the ways of opening for reading, the best first."""
    if has_log(path):
        # Works without permission to write as long as the log's index is there.
        return ["mode=ro"]
    # The first removes its traces when it is closed, and the second leaves none: for
    # folders that can not be written.
    return ["mode=rw", "mode=ro&immutable=1"]


def _open_as(path: Path, way: str, *, query_only: bool = False) -> tuple[sqlite3.Connection, int]:
    db = _connect(path, way)
    try:
        # One transaction, since another process may be writing.
        db.execute("BEGIN")
        totals = _look_over(db)
        db.execute("COMMIT")
        db.execute(f"PRAGMA query_only={query_only:d}")
    except BaseException:
        db.close()
        raise
    return db, totals.commits


def _connect(path: Path, way: str) -> sqlite3.Connection:
    db = sqlite3.connect(
        f"{path.absolute().as_uri()}?{way}",
        uri=True,
        timeout=_BUSY_S,
        isolation_level=None,
        check_same_thread=False,
    )
    # Damaged text must not become an error of its own kind.
    db.text_factory = bytes
    db.execute("PRAGMA synchronous=FULL")
    db.execute("PRAGMA trusted_schema=OFF")
    db.execute("PRAGMA cell_size_check=ON")
    return db


def _look_over(db: sqlite3.Connection) -> Totals:
    schema = {name for (name,) in db.execute("SELECT sql FROM sqlite_schema WHERE sql NOT NULL")}
    if schema != {statement.encode() for statement in _SCHEMA.values()}:
        raise CorruptJournalError("it is not a journal, or its list of tables is damaged")
    version = read_facts(db).get(FORMAT)
    if version != _FORMAT_VERSION:
        raise JournalError(
            f"it has format {version}, and this version of sage_dask knows {_FORMAT_VERSION}; "
            "go on with the version that made it, or start anew in another run_dir"
        )
    totals = read_totals(db)
    for table in COUNTED:
        found = db.execute(f"SELECT count(*), ifnull(sum(crc), 0) FROM {table}").fetchone()  # noqa: S608
        if found != (totals.rows[table], totals.sums[table]):
            raise CorruptJournalError(f"rows of its {table} are missing or changed")
        for (problem,) in db.execute(f"PRAGMA integrity_check({table})"):
            if problem != b"ok":
                raise CorruptJournalError(f"its {table} are damaged: {problem.decode()}")
    return totals


# SQLite's words for a disk or another program in the way; everything else is damage.
_MENDS = {
    sqlite3.SQLITE_FULL: "disk full; free space, then resume",
    sqlite3.SQLITE_IOERR: "the disk refused; check its space, quota and health, then resume",
    sqlite3.SQLITE_BUSY: "another program locks it; wait for its end, then resume",
    sqlite3.SQLITE_LOCKED: "another program locks it; wait for its end, then resume",
    sqlite3.SQLITE_CANTOPEN: (
        "it can not be opened; check that it is there, and its permissions; after a crash, "
        "someone who may write the folder must open it first"
    ),
    sqlite3.SQLITE_READONLY: "it can not be written; check the folder's permissions",
    sqlite3.SQLITE_PERM: "it can not be written; check the folder's permissions",
    sqlite3.SQLITE_NOMEM: "there is too little memory; free some, then resume",
}


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Turn errors of SQLite and of the disk into ``JournalError``, and name the file."""
    try:
        yield
    except CorruptJournalError as error:
        raise _corrupt(path, error) from error
    except JournalError as error:
        raise JournalError(f"journal {str(path)!r}: {error}") from error
    except sqlite3.ProgrammingError:
        raise
    except sqlite3.Error as error:
        mend = _MENDS.get(getattr(error, "sqlite_errorcode", 0) & 0xFF)
        if mend is None:
            raise _corrupt(path, error) from error
        raise JournalError(f"journal {str(path)!r} ({error}): {mend}") from error
    except OSError as error:
        raise JournalError(
            f"journal {str(path)!r} can not be written ({error.strerror}); check the disk and "
            "its permissions, then resume"
        ) from error


def _corrupt(path: Path, error: Exception) -> CorruptJournalError:
    return CorruptJournalError(
        f"journal {str(path)!r} is damaged ({error}); restore the run folder from a backup, or "
        "start anew in another run_dir"
    )
