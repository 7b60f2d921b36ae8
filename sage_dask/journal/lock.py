"""Who may write a run folder: one process at a time, as long as it lives.

The lock belongs to an open file, so the kernel lets go of it when the process dies.
Byte 0 is locked to take the folder; byte 1 is locked once the file says who took it.
Whoever looks at byte 1 alone therefore never reads the name of an earlier holder.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import struct
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from sage_dask.journal.store import JournalError

# Some network file systems have no locks, some sandboxes none of this kind (EINVAL); there,
# the journal's own check for later writers remains.
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}

_TAKEN, _NAMED = 0, 1

# struct flock: type, whence, start, length, pid; padded to the alignment of its offsets.
_FLOCK = struct.Struct("hhqqi0q")

# Far more than a line of ours.
_LINE_BYTES = 4096


class Holder(NamedTuple):
    """A process that writes a run folder."""

    pid: int
    host: str
    started_at: str
    """When it took the folder; ISO 8601, UTC."""


class RunLock:
    """Keeps other processes from writing a run folder, from its making to ``release``.

    Processes that this one starts do not hold it, whether forked or not.  Where the file
    system has no locks it keeps nobody out, and ``is_held`` is False.

    Args:
        folder: The run folder; it exists.

    Raises:
        JournalError: Another process, or this one, holds it already.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file = -1
        self.is_held = False
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        try:
            self._file = os.open(_path(folder), flags, 0o666)
            _open_here.add(self)
            self.is_held = self._take()
        except BaseException as error:
            self.release()
            if isinstance(error, OSError):
                raise _failure(folder, error) from error
            raise

    def _take(self) -> bool:
        try:
            _lock(self._file, _TAKEN)
        except BlockingIOError as error:
            raise _in_use(self._folder) from error
        except OSError as error:
            if error.errno in _NO_LOCKS:
                return False
            raise
        now = datetime.now(UTC).isoformat(timespec="seconds")
        _write(self._file, Holder(os.getpid(), socket.gethostname(), now))
        _lock(self._file, _NAMED)
        return True

    def release(self) -> None:
        """Let others write the folder; once more does nothing."""
        _open_here.discard(self)
        # Closing unlocks only where no other process has the same open file; unlocking by name
        # would take the lock from a parent.
        file, self._file, self.is_held = self._file, -1, False
        if file >= 0:
            os.close(file)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()

    def __repr__(self) -> str:
        state = "held" if self.is_held else "not held"
        return f"<RunLock {str(self._folder)!r} {state}>"


def holder(folder: Path) -> Holder | None:
    """Return the process that holds a run folder now, without taking it.

    A process that is about to hold it does not count until it has said its name.  None too
    where the file system has no locks, since nothing there tells the living from the dead.

    Raises:
        JournalError: The lock can not be read.
    """
    try:
        file = os.open(_path(folder), os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise _failure(folder, error) from error
    try:
        return _read(file) if _is_locked(file, _NAMED) else None
    except OSError as error:
        raise _failure(folder, error) from error
    finally:
        os.close(file)


def _path(folder: Path) -> Path:
    return folder / "lock"


def _lock(file: int, byte: int) -> None:
    """Lock one byte or raise ``BlockingIOError``."""
    # Locks of a process would be dropped by whatever closes the file in it; flock can not be
    # asked for without being taken.  These belong to the open file and can.
    wanted = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, byte, 1, 0)
    try:
        fcntl.fcntl(file, fcntl.F_OFD_SETLK, wanted)
    except PermissionError as error:
        # POSIX lets a system say either.
        raise BlockingIOError(*error.args) from error


def _is_locked(file: int, byte: int) -> bool:
    wanted = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, byte, 1, 0)
    try:
        found = fcntl.fcntl(file, fcntl.F_OFD_GETLK, wanted)
    except OSError as error:
        if error.errno in _NO_LOCKS:
            return False
        raise
    return bool(_FLOCK.unpack(found)[0] != fcntl.F_UNLCK)


def _write(file: int, named: Holder) -> None:
    line = json.dumps(named._asdict()).encode() + b"\n"
    os.ftruncate(file, 0)
    os.pwrite(file, line, 0)
    # Other machines see what has left this one.
    os.fsync(file)


def _read(file: int) -> Holder | None:
    try:
        found = json.loads(os.pread(file, _LINE_BYTES, 0))
        return Holder(int(found["pid"]), str(found["host"]), str(found["started_at"]))
    except (ValueError, TypeError, KeyError):
        # It changed hands while it was read: the one is gone, the other not there yet.
        return None


def _in_use(folder: Path) -> JournalError:
    found = holder(folder)
    by = (
        f"process {found.pid} on host {found.host} since {found.started_at}"
        if found
        else "another process that has just begun or just ended"
    )
    return JournalError(
        f"run folder {str(folder)!r} is in use by {by}; wait for its end, or give another run_dir"
    )


def _failure(folder: Path, error: OSError) -> JournalError:
    return JournalError(
        f"run folder {str(folder)!r} can not be locked ({error.strerror or error}); "
        "check that the folder is there and may be written, or give another run_dir"
    )


# A forked child has the same open file, and would hold the lock after its parent's death.
_open_here: set[RunLock] = set()


def _let_go_in_child() -> None:
    for lock in list(_open_here):
        lock.release()


os.register_at_fork(after_in_child=_let_go_in_child)
