"""The life of an output file: a partial beside the target, then one rename.

Whoever sees the target sees a whole file, whatever happened to the machine.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sage_dask.errors import SinkError

# A file-size limit (EFBIG) and a quota end a run the way a full disk does.
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


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
    partial = partial_path(target)
    was_there = partial.exists()
    with writing(target):
        # Permission bits say little: root passes them, a read-only disk ignores them.
        partial.open("ab").close()
        if not was_there:
            partial.unlink()


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
    partial.replace(target)
    sync_folder(target.parent)


def sync_folder(folder: Path) -> None:
    """Make renames and removals in a folder last: they are entries of the folder, not the file."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
