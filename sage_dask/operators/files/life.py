"""The life of an output file: a partial beside the target, then one rename.

Whoever sees the target sees a whole file, whatever happened to the machine.
The partial is locked while it is open, so that two runs never share one.
"""

from __future__ import annotations

import errno
import fcntl
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sage_dask import failpoint
from sage_dask.disk import sync_folder
from sage_dask.errors import SinkError

# A file-size limit (EFBIG) and a quota end a run the way a full disk does.
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}

# Some network file systems have no locks; there, two runs into one file are not noticed.
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}


def partial_path(target: Path) -> Path:
    """Return where a file stands until it is whole."""
    return target.with_name(f"{target.name}.partial")


def check_target(target: Path) -> None:
    """Raise ``SinkError`` unless a file can be made at ``target``, by trying it."""
    if target.is_dir():
        raise SinkError(f"output {str(target)!r} is a folder, and a file is wanted; name the file")
    if target.exists() and not target.is_file():
        raise SinkError(
            f"output {str(target)!r} is a pipe or a device, which can not be replaced by a "
            "finished file; name a file"
        )
    if not target.parent.is_dir():
        raise SinkError(
            f"output {str(target)!r}: {str(target.parent.absolute())!r} is not a folder; "
            "make it first"
        )
    was_there = partial_path(target).exists()
    # Permission bits say little: root passes them, a read-only disk ignores them.
    with claim(target), writing(target):
        if not was_there:
            partial_path(target).unlink()


def open_partial(target: Path) -> io.FileIO:
    """Open the partial of a target, empty and unbuffered; no other run can until it is closed.

    Raises:
        SinkError: It can not be opened, or another run is writing it.
    """
    partial = claim(target)
    with writing(target):
        partial.truncate(0)
    return partial


def remove_partial(target: Path) -> None:
    """Remove what an aborted run left of a target, if anything.

    Raises:
        SinkError: It can not be removed, or another run is writing it.
    """
    if partial_path(target).exists():
        with claim(target), writing(target):
            partial_path(target).unlink()


def claim(target: Path) -> io.FileIO:
    """Open and lock the partial of a target as it is; made if it is not there.

    Raises:
        SinkError: It can not be opened, or another run is writing it.
    """
    path = partial_path(target)
    while True:
        with writing(target):
            file = io.FileIO(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666), "r+")
        try:
            _lock(file, target)
        except SinkError:
            file.close()
            raise
        # Whoever held the lock may have renamed or removed the file that was opened.
        if _is_at(file, path):
            return file
        file.close()


def _lock(file: io.FileIO, target: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise SinkError(
            f"output {str(target)!r} is being written by another run; wait for its end, or name "
            "another file"
        ) from error
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise sink_error(target, error) from error


def _is_at(file: io.FileIO, path: Path) -> bool:
    """Tell whether an open file still stands at a path."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


@contextmanager
def writing(target: Path) -> Iterator[None]:
    """Turn errors of the disk into ``SinkError``."""
    try:
        yield
    except OSError as error:
        raise sink_error(target, error) from error


def sink_error(target: Path, error: OSError, safe: str = "") -> SinkError:
    """Return what to raise for an error of the disk.

    Args:
        target: The file that was being written.
        error: What the system said.
        safe: What is not lost, such as ``"12 records are safe in ..."``.
    """
    safe = f": {safe}" if safe else ""
    if error.errno in _FULL:
        return SinkError(
            f"disk full writing {str(target)!r} ({error.strerror}){safe}; free space and run again"
        )
    return SinkError(
        f"output {str(target)!r} can not be written ({error.strerror or error}){safe}; "
        "check the disk and its permissions, and run again"
    )


def publish(partial: Path, target: Path) -> None:
    """Put a synced partial in the target's place, so that it stays there.

    Raises:
        OSError: The rename failed; the partial is still there.
    """
    failpoint.reach("rename")
    partial.replace(target)
    failpoint.reach("renamed")
    sync_folder(target.parent)
