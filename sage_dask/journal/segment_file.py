"""The segment that one process writes, and the folder that holds them all.

Every opening for writing makes a file of its own and never touches another, so two
processes can not mix their lines.  Whoever finds a later file than its own has been
followed by another process and writes no more.
"""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path

from sage_dask.disk import sync_folder
from sage_dask.journal.store import CorruptJournalError, JournalError

_NAME = re.compile(r"segment-(\d{6,})\.jsonl")

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def segment_path(folder: Path, number: int) -> Path:
    """Return where a segment lies."""
    return folder / f"segment-{number:06}.jsonl"


def last_segment(folder: Path) -> int:
    """Return the number of the last segment of a folder, 0 without any.

    Raises:
        CorruptJournalError: One before it is missing.
        JournalError: The folder can not be read.
    """
    # Opening a folder makes a network file system ask its server; looking for one name might
    # be answered from memory, which says for a minute that the name is not there.
    try:
        names = [_NAME.fullmatch(name) for name in os.listdir(folder)]  # noqa: PTH208 - no paths
    except OSError as error:
        raise journal_error(folder, "read", error) from error
    numbers = sorted(int(name[1]) for name in names if name)
    for wanted, found in enumerate(numbers, 1):
        if wanted != found:
            raise CorruptJournalError(
                f"journal {str(folder)!r} lacks {segment_path(folder, wanted).name!r}, and a later "
                "segment is there; restore it from a copy, or start anew in another run_dir"
            )
    return len(numbers)


class SegmentFile:
    """A new segment; only this process writes it.

    Args:
        folder: Of the segments.
        number: One more than that of the last one.

    Raises:
        JournalError: The disk refuses, or another process was quicker.
    """

    def __init__(self, folder: Path, number: int) -> None:
        self.number = number
        self.path = segment_path(folder, number)
        self._size = 0
        self._refusal: JournalError | None = None
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            self._file = os.open(self.path, flags, 0o666)
        except FileExistsError as error:
            raise self._taken_over() from error
        except OSError as error:
            raise journal_error(self.path, "made", error) from error
        try:
            sync_folder(folder)
            if number == 1:
                # The folder itself may be new.
                sync_folder(folder.parent)
        except OSError as error:
            self.close()
            raise journal_error(self.path, "made", error) from error

    def append(self, data: bytes) -> int:
        """Write data so that it stays, or leave the file as it was; return where it begins.

        Raises:
            JournalError: The disk refuses, or another process has made a later segment.
        """
        self._check()
        start = self._size
        try:
            self._write(data, start)
            os.fdatasync(self._file)
        except BaseException as error:
            self._cut(start)
            if isinstance(error, OSError):
                raise journal_error(self.path, "written", error) from error
            raise
        self._size += len(data)
        # A process that follows makes its file first and reads this one then: if there is no
        # file yet, it will read what is safe by now.
        self._check()
        return start

    def _write(self, data: bytes, start: int) -> None:
        rest = memoryview(data)
        while rest:
            # A disk that is nearly full takes a part first, and refuses then.
            written = os.pwrite(self._file, rest, start)
            start, rest = start + written, rest[written:]

    def _cut(self, size: int) -> None:
        """Remove what a failed write left; else a later group would stand behind half of one."""
        try:
            os.ftruncate(self._file, size)
            os.fdatasync(self._file)
        except OSError as error:
            self._refusal = JournalError(
                f"journal {str(self.path)!r}: what a failed write left can not be removed "
                f"({error.strerror or error}); mend the disk, then resume"
            )

    def _check(self) -> None:
        """Raise unless this process may write, now and from now on."""
        if self._refusal is None:
            try:
                last = last_segment(self.path.parent)
            except JournalError as error:
                self._refusal = error
            else:
                if last > self.number:
                    self._refusal = self._taken_over()
                elif last < self.number:
                    self._refusal = journal_error(self.path, "written", OSError("it is gone"))
        if self._refusal:
            raise self._refusal

    def _taken_over(self) -> JournalError:
        return JournalError(
            f"journal {str(self.path)!r}: another process has taken over the run; let it go on, "
            "or end it and resume"
        )

    def close(self) -> None:
        """Let go of the file."""
        file, self._file = self._file, -1
        if file >= 0:
            os.close(file)


def journal_error(path: Path, done: str, error: OSError) -> JournalError:
    """Return what to raise for an error of the disk.

    Args:
        path: What it is about.
        done: What can not be done with it: ``made``, ``read``, ``written``.
        error: What the system said.
    """
    if error.errno in _FULL:
        return JournalError(
            f"disk full writing journal {str(path)!r} ({error.strerror}); all that was committed "
            "before is safe; free space, then resume"
        )
    return JournalError(
        f"journal {str(path)!r} can not be {done} ({error.strerror or error}); check the disk and "
        "its permissions, then resume"
    )
