"""Text files, read line by line in memory that does not grow with the file.

Compression goes by the file's name: ``.gz``, ``.zst``, anything else is plain.
Offsets count bytes of the uncompressed text.  A file that breaks off in the
middle gives every line before the break, then raises.
"""

from __future__ import annotations

import io
import os
import zlib
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any, BinaryIO

from sage_dask.errors import SourceError, did_you_mean
from sage_dask.extras import require
from sage_dask.operators.files.rows import EXCERPT_CHARS, CutLine
from sage_dask.record import Position

_BOM = b"\xef\xbb\xbf"
_BUFFER_BYTES = 1 << 20

# Names of compressed files end in one of these.
PACKED = {".gz", ".zst"}

# zlib's way to say: the largest window, with the header and trailer of gzip.
_GZIP_WBITS = 31

# A zstandard frame may hold 30,000 times its size; small bites bound what one of them becomes.
_BITE_BYTES = 1 << 10

# What a stream may raise in the middle: the disk's errors, and the end of cut data.
_READ_ERRORS = (OSError, EOFError)


def check_file(path: Path) -> None:
    """Raise ``SourceError`` unless ``path`` is a regular file that may be read."""
    if path.is_dir():
        raise SourceError(f"input {str(path)!r} is a folder, and a file is wanted; name the file")
    if not path.exists():
        siblings = [item.name for item in path.parent.iterdir()] if path.parent.is_dir() else []
        raise SourceError(
            f"input {str(path)!r} does not exist (looked in {str(path.parent.absolute())!r})"
            f"{did_you_mean(path.name, siblings)}; check the path"
        )
    if not path.is_file():
        raise SourceError(
            f"input {str(path)!r} is a pipe or a device, and a file is wanted, because its "
            "first rows are read twice; save it to a file first"
        )
    if not os.access(path, os.R_OK):
        raise SourceError(f"input {str(path)!r} may not be read; check its permissions")


def open_binary(path: Path) -> BinaryIO:
    """Open a file for reading its uncompressed bytes.

    Raises:
        SourceError: The file can not be opened.
        MissingDependencyError: It is a ``.zst`` file and zstandard is not installed.
    """
    check_file(path)
    try:
        if path.suffix in PACKED:
            return io.BufferedReader(_Unpacked(path), _BUFFER_BYTES)
        return path.open("rb", buffering=_BUFFER_BYTES)
    except OSError as error:
        raise SourceError(f"input {str(path)!r} can not be opened: {error.strerror}") from error


def read_lines(path: Path, max_line_bytes: int) -> Generator[tuple[Position, bytes], None, None]:
    """Yield every line with its position; one over the limit comes as a ``CutLine``.

    Lines keep their ends; the limit is for what stands before them.  A byte
    order mark is left out.

    Raises:
        SourceError: The file can not be read, or breaks off; lines before that were yielded.
    """
    number, offset = 0, 0
    with open_binary(path) as stream:
        readline = stream.readline
        while True:
            try:
                line = readline(max_line_bytes + 1)
                size = len(line)
                if size > max_line_bytes and line[-1] != 0x0A:
                    line = CutLine(line[:EXCERPT_CHARS])
                    size += _skip_line(stream)
            except _READ_ERRORS as error:
                raise _broken(path, number, offset, error) from error
            if not line:
                return
            number += 1
            yield Position(number, offset), line if offset else _without_bom(line)
            offset += size


def read_whole(path: Path, max_bytes: int) -> bytes:
    """Return a whole file's bytes; one over the limit comes as a ``CutLine``.

    Raises:
        SourceError: The file can not be read, or breaks off.
    """
    with open_binary(path) as stream:
        try:
            data = stream.read(max_bytes + 1)
        except _READ_ERRORS as error:
            raise _broken(path, 0, 0, error) from error
    return CutLine(data[:EXCERPT_CHARS]) if len(data) > max_bytes else _without_bom(data)


def _skip_line(stream: BinaryIO) -> int:
    """Read on to the end of the line and return how many bytes that took."""
    skipped = 0
    while piece := stream.readline(_BUFFER_BYTES):
        skipped += len(piece)
        if piece[-1] == 0x0A:
            break
    return skipped


def _without_bom(line: bytes) -> bytes:
    if not line.startswith(_BOM):
        return line
    return type(line)(line[len(_BOM) :])


def _broken(path: Path, number: int, offset: int, error: Exception) -> SourceError:
    reason = (isinstance(error, OSError) and error.strerror) or str(error)
    return SourceError(
        f"input {str(path)!r} breaks off after line {number} (uncompressed byte {offset}): "
        f"{reason}; the lines before it were read, so get the file again and resume"
    )


class _Unpacked(io.RawIOBase):
    """The bytes in a chain of gzip members or zstandard frames; raises where the last is cut.

    The libraries' own readers will not do: zstandard's takes an incomplete frame
    for the end of the file, so rows would go missing in silence, and gzip's
    loses up to a buffer of sound rows before the break.
    """

    def __init__(self, path: Path) -> None:
        self._new_unpacker = _unpacker(path)
        self._unpacker: Any = None
        self._ready = memoryview(b"")
        self._file = path.open("rb")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._ready:
            bite = self._file.read(_BITE_BYTES)
            if not bite:
                if self._unpacker is not None:
                    raise EOFError("the compressed data ends in the middle")
                return 0
            self._ready = memoryview(self._unpack(bite))
        size = min(len(buffer), len(self._ready))
        buffer[:size] = self._ready[:size]
        self._ready = self._ready[size:]
        return size

    def _unpack(self, bite: bytes) -> bytes:
        pieces = []
        while bite:
            if self._unpacker is None:
                # Tapes and block devices pad with zeros, with which no member begins.
                bite = bite.lstrip(b"\0")
                self._unpacker = self._new_unpacker() if bite else None
                continue
            try:
                pieces.append(self._unpacker.decompress(bite))
            except Exception as error:
                # Each library has its own class for this, and no other kind of error here.
                raise OSError(f"damaged, or not compressed as its name says ({error})") from error
            if not self._unpacker.eof:
                break
            bite, self._unpacker = self._unpacker.unused_data, None
        return b"".join(pieces)

    def close(self) -> None:
        self._file.close()
        super().close()


def _unpacker(path: Path) -> Callable[[], Any]:
    """Return what makes the decompressor of one member of a ``.gz`` or ``.zst`` file."""
    if path.suffix == ".gz":
        return lambda: zlib.decompressobj(wbits=_GZIP_WBITS)
    zstandard = require("zstandard", extra="io", needed_by=f"reading {path.name!r}")
    make: Callable[[], Any] = zstandard.ZstdDecompressor().decompressobj
    return make
