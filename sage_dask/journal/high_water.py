"""How many commits a journal has acknowledged, in a file of its own.

SQLite takes a damaged end of its log for one that was never written, and would go on
without commits that were acknowledged.  This number is written without a sync, so it costs
nothing and survives the death of the process; after a loss of power it may be an older
one, which raises no alarm.
"""

from __future__ import annotations

import os
import struct
import zlib
from contextlib import suppress
from pathlib import Path

# The number, and the checksum of its bytes.
_MARK = struct.Struct("<QI")


def read_mark(path: Path) -> int:
    """Return the number in a file; 0 where there is none, or none that is whole."""
    try:
        data = path.read_bytes()
    except OSError:
        return 0
    if len(data) != _MARK.size or zlib.crc32(data[:8]) != _MARK.unpack(data)[1]:
        return 0
    return int(_MARK.unpack(data)[0])


class HighWater:
    """The number while it rises.

    Args:
        path: Of the file; made if it is not there.
        number: What to begin with.

    Raises:
        OSError: The file can not be written.
    """

    def __init__(self, path: Path, number: int) -> None:
        self._path = path
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            self._write(number)
        except OSError:
            os.close(self._file)
            raise

    def raise_to(self, number: int) -> None:
        """Note one more commit; what fails here fails nobody, since the commit is safe."""
        with suppress(OSError):
            self._write(number)

    def _write(self, number: int) -> None:
        checksum = zlib.crc32(number.to_bytes(8, "little"))
        os.pwrite(self._file, _MARK.pack(number, checksum), 0)

    def close(self, *, is_settled: bool) -> None:
        """Let go of the file, and remove it where no log is left that could lose its end."""
        os.close(self._file)
        if is_settled:
            with suppress(OSError):
                self._path.unlink()
