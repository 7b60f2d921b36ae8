"""Lines of plain and packed files."""

from __future__ import annotations

import gzip
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from sage_dask.errors import SourceError
from sage_dask.operators.files.rows import CutLine
from sage_dask.operators.files.textfile import read_lines, read_whole
from sage_dask.record import Position

PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "txt": bytes,
    "gz": gzip.compress,
    "zst": zstandard.ZstdCompressor().compress,
}
each_packing = pytest.mark.parametrize("packing", PACKERS)
NOT_UTF8 = bytes(range(256)).replace(b"\n", b"") * 300


def packed(tmp_path: Path, packing: str, *parts: bytes) -> Path:
    """Return a file of parts that are packed each by itself."""
    path = tmp_path / f"in.{packing}"
    path.write_bytes(b"".join(PACKERS[packing](part) for part in parts))
    return path


@each_packing
def test_lines_come_with_number_and_offset(packing: str, tmp_path: Path):
    """Offsets count uncompressed bytes, whatever members the file is made of."""
    path = packed(tmp_path, packing, b"one\ntw", b"o\r\n\nlast")

    lines = list(read_lines(path, 100))

    assert lines == [
        (Position(1, 0), b"one\n"),
        (Position(2, 4), b"two\r\n"),
        (Position(3, 9), b"\n"),
        (Position(4, 10), b"last"),
    ]


@each_packing
def test_an_empty_file_has_no_lines(packing: str, tmp_path: Path):
    """Nothing packed is nothing read, and so is a file of no bytes."""
    assert list(read_lines(packed(tmp_path, packing, b""), 100)) == []
    assert list(read_lines(packed(tmp_path, packing), 100)) == []


def test_a_byte_order_mark_is_no_text(tmp_path: Path):
    """Only the mark at the beginning is left out; offsets still count it."""
    path = packed(tmp_path, "txt", b"\xef\xbb\xbfone\n\xef\xbb\xbftwo\n")

    lines = list(read_lines(path, 100))

    assert lines == [(Position(1, 0), b"one\n"), (Position(2, 7), b"\xef\xbb\xbftwo\n")]


@pytest.mark.parametrize("length", [9, 10, 11, 5_000_000])
@pytest.mark.parametrize("end", [b"\n", b""])
def test_a_line_over_the_limit_is_cut_and_the_next_is_whole(
    length: int, end: bytes, tmp_path: Path
):
    """Ten bytes before the line end are within a limit of ten, eleven are not."""
    path = packed(tmp_path, "txt", b"x" * length + end, b"next\n" if end else b"")

    lines = list(read_lines(path, 10))

    assert (type(lines[0][1]) is CutLine) == (length > 10)
    assert lines[1:] == ([(Position(2, length + 1), b"next\n")] if end else [])


def test_a_line_over_the_limit_is_not_held(tmp_path: Path):
    """Memory stays near the limit, a twentieth of the line."""
    path = packed(tmp_path, "txt", b"x" * 20_000_000)
    tracemalloc.start()

    lines = list(read_lines(path, 1_000_000))

    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(lines[0][1]) <= 200
    assert peak < 5_000_000


@pytest.mark.parametrize("packing", ["gz", "zst"])
def test_a_truncated_file_gives_its_lines_and_then_raises(packing: str, tmp_path: Path):
    """Rows before the break are read; the error says how far that was."""
    path = packed(tmp_path, packing, b"one\ntwo\n", NOT_UTF8)
    path.write_bytes(path.read_bytes()[:-20])
    lines = read_lines(path, 1 << 20)

    got = [next(lines)[1], next(lines)[1]]

    assert got == [b"one\n", b"two\n"]
    with pytest.raises(SourceError, match=r"breaks off after line 2 \(uncompressed byte 8\)"):
        next(lines)


@pytest.mark.parametrize("packing", ["gz", "zst"])
def test_a_file_that_is_not_packed_is_refused(packing: str, tmp_path: Path):
    """The name promises compressed data; plain text under it is an error, not garbage."""
    path = tmp_path / f"in.{packing}"
    path.write_bytes(b"plain text\n")

    with pytest.raises(SourceError, match="breaks off after line 0"):
        list(read_lines(path, 100))


def test_a_damaged_frame_is_refused(tmp_path: Path):
    """A flipped bit in a checked frame raises and gives no wrong bytes for good."""
    frame = bytearray(zstandard.ZstdCompressor(write_checksum=True).compress(NOT_UTF8))
    frame[len(frame) // 2] ^= 1
    path = tmp_path / "in.zst"
    path.write_bytes(frame)

    with pytest.raises(SourceError, match="breaks off"):
        read_whole(path, 1 << 20)


@each_packing
def test_a_whole_file_is_read_up_to_the_limit(packing: str, tmp_path: Path):
    """A file of the limit's size is given, one byte more is cut."""
    path = packed(tmp_path, packing, b"0123456789")

    assert read_whole(path, 10) == b"0123456789"
    assert type(read_whole(path, 9)) is CutLine


def test_zeros_behind_packed_data_are_no_data(tmp_path: Path):
    """Padding by a tape or a block device does not spoil the file."""
    path = packed(tmp_path, "gz", b"one\n", b"two\n")
    path.write_bytes(path.read_bytes() + bytes(5000))

    assert [line for _, line in read_lines(path, 100)] == [b"one\n", b"two\n"]
