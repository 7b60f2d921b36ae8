"""A file of rows on its way: whole rows in ``<target>.partial``, never half of one.

A disk that fills up in the middle of a row leaves half of it behind.  The file
therefore remembers where its last whole row ends, and is cut there before it is
left.  Compressed files are a chain of members (gzip) or frames (zstandard) of
about 1 MiB of rows each, for the same reason: such a chain can be cut between two.
"""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial as bind
from pathlib import Path

from sage_dask.errors import SinkError
from sage_dask.extras import require
from sage_dask.operators.files.life import open_partial, partial_path, publish, sink_error, writing

_MEMBER_BYTES = 1 << 20

# gzip's level 6 is the tool's own default: level 9 takes twice the time for one hundredth.
_GZIP_LEVEL = 6


class PartialFile:
    """Rows of ``target`` while they are written.

    Plain rows reach the operating system with each ``write``.  Compressed ones
    wait until a member is full, or until the file is published or kept.
    """

    def __init__(self, target: Path) -> None:
        """Open the partial, empty.

        Raises:
            SinkError: It can not be opened.
            MissingDependencyError: A ``.zst`` file, and zstandard is not installed.
        """
        self.target = target
        self.path = partial_path(target)
        self.num_records = 0
        self._end = 0
        self._pack = _packer(target)
        self._held: list[bytes] = []
        self._held_bytes = 0
        # Unbuffered: a full disk must be met in write, not in some later flush.
        self._file = open_partial(target)

    def write(self, rows: Sequence[bytes]) -> None:
        """Append rows, each a whole record with its line end.

        Raises:
            SinkError: The disk refused; the message says how many records are safe.
        """
        if self._pack is None:
            self._append(rows)
            return
        self._held.extend(rows)
        self._held_bytes += sum(map(len, rows))
        if self._held_bytes >= _MEMBER_BYTES:
            self._end_member()

    def publish(self) -> None:
        """Sync the rows to the disk and put the file in the target's place.

        Raises:
            SinkError: That failed; ``keep`` still works.
        """
        self._end_member()
        with writing(self.target):
            os.fsync(self._file.fileno())
            publish(self.path, self.target)
            # Last, because it ends the lock, and the next run may take the partial's name.
            self._file.close()
        self.path = self.target

    def keep(self) -> int:
        """Leave the partial with its whole rows, synced, and return how many those are.

        Raises:
            SinkError: The disk refused even that.
        """
        if not self._file.closed:
            # What was held finds no room on a full disk; the members before it count.
            with suppress(SinkError):
                self._end_member()
            with writing(self.target):
                self._file.truncate(self._end)
                os.fsync(self._file.fileno())
                self._file.close()
        return self.num_records

    def _end_member(self) -> None:
        """Pack the rows that are held and append them as one piece."""
        if self._pack is None or not self._held:
            return
        self._append([self._pack(b"".join(self._held))], rows_each=len(self._held))
        self._held.clear()
        self._held_bytes = 0

    def _append(self, pieces: Sequence[bytes], rows_each: int = 1) -> None:
        """Append pieces that may be cut between each other but not within."""
        data = memoryview(b"".join(pieces))
        written = 0
        try:
            while written < len(data):
                written += self._file.write(data[written:])
        except OSError as error:
            self._count_whole(pieces, rows_each, written)
            safe = f"{self.num_records} records are safe in {str(self.path)!r}"
            raise sink_error(self.target, error, safe) from error
        self._end += written
        self.num_records += rows_each * len(pieces)

    def _count_whole(self, pieces: Sequence[bytes], rows_each: int, written: int) -> None:
        """Move the end behind the last piece that was written whole."""
        for piece in pieces:
            if len(piece) > written:
                break
            written -= len(piece)
            self._end += len(piece)
            self.num_records += rows_each
        self._file.seek(self._end)

    def __repr__(self) -> str:
        return f"<PartialFile {str(self.path)!r}: {self.num_records} records>"


def _packer(target: Path) -> Callable[[bytes], bytes] | None:
    """Return what makes one independent piece of a compressed file, by the file's name."""
    if target.suffix == ".gz":
        # No time stamp: the same records give the same file.
        return bind(gzip.compress, compresslevel=_GZIP_LEVEL, mtime=0)
    if target.suffix == ".zst":
        zstandard = require("zstandard", extra="io", needed_by=f"writing {target.name!r}")
        pack: Callable[[bytes], bytes] = zstandard.ZstdCompressor(write_checksum=True).compress
        return pack
    return None
