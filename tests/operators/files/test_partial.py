"""Rows on their way to a file."""

from __future__ import annotations

import gzip
import resource
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from sage_dask.errors import SinkError
from sage_dask.operators.files import partial
from sage_dask.operators.files.partial import PartialFile


def unpack_frames(data: bytes) -> bytes:
    return zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True).read()


UNPACKERS: dict[str, Callable[[bytes], bytes]] = {
    "txt": bytes,
    "gz": gzip.decompress,
    "zst": unpack_frames,
}
each_packing = pytest.mark.parametrize("packing", UNPACKERS)


@given(st.lists(st.binary(min_size=1, max_size=9), max_size=9), st.integers(0, 60))
def test_a_full_disk_leaves_exactly_the_whole_rows(rows: list[bytes], room: int):
    """The file is cut behind the last row that fits, for rows of any sizes and any room."""
    fits = 0
    while fits < len(rows) and sum(map(len, rows[: fits + 1])) <= room:
        fits += 1
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    with tempfile.TemporaryDirectory() as folder:
        file = PartialFile(Path(folder) / "out.txt")
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
        try:
            file.write(rows)
            refused = ""
        except SinkError as error:
            refused = str(error)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        kept = file.keep()
        left = file.path.read_bytes()

    assert left == b"".join(rows[:fits])
    assert kept == fits
    assert bool(refused) == (fits < len(rows))
    assert not refused or f"{fits} records are safe" in refused


def test_plain_rows_can_be_seen_after_each_write(tmp_path: Path):
    """A run that is killed has lost nothing that was written."""
    file = PartialFile(tmp_path / "out.txt")

    file.write([b"one\n", b"two\n"])

    assert file.path.read_bytes() == b"one\ntwo\n"
    file.keep()


@each_packing
def test_a_published_file_unpacks_to_its_rows(packing: str, tmp_path: Path):
    """Also where the rows fill several members."""
    target = tmp_path / f"out.{packing}"
    rows = [b"%07d " % i * 8 + b"\n" for i in range(40_000)]
    file = PartialFile(target)

    for start in range(0, len(rows), 1000):
        file.write(rows[start : start + 1000])
    file.publish()

    assert UNPACKERS[packing](target.read_bytes()) == b"".join(rows)
    assert file.num_records == 40_000
    assert not file.path.with_name(f"out.{packing}.partial").exists()


@pytest.mark.parametrize("packing", ["gz", "zst"])
def test_each_member_of_a_packed_file_stands_alone(
    packing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Members end between rows, so a chain that is cut between two is whole."""
    monkeypatch.setattr(partial, "_MEMBER_BYTES", 10)
    file = PartialFile(tmp_path / f"out.{packing}")
    ends = []
    for row in (b"first row\n", b"2nd\n", b"third row\n"):
        file.write([row])
        ends.append(file.path.stat().st_size)

    data = file.path.read_bytes()

    assert ends[0] == ends[1] < ends[2]
    assert UNPACKERS[packing](data[: ends[0]]) == b"first row\n"
    assert UNPACKERS[packing](data) == b"first row\n2nd\nthird row\n"
    file.keep()


def test_the_same_rows_make_the_same_packed_file(tmp_path: Path):
    """No time stamp goes in, so that outputs can be compared by their bytes."""
    made = []
    for name in ("a.gz", "b.gz"):
        file = PartialFile(tmp_path / name)
        file.write([b"row\n"])
        file.publish()
        made.append((tmp_path / name).read_bytes())

    assert made[0] == made[1]
    assert made[0][4:8] == bytes(4)


def test_a_rename_that_fails_leaves_the_rows(tmp_path: Path):
    """Keeping still works after publishing did not."""
    target = tmp_path / "out.txt"
    file = PartialFile(target)
    file.write([b"one\n"])
    target.mkdir()

    with pytest.raises(SinkError, match="can not be written"):
        file.publish()

    assert file.keep() == 1
    assert file.path.read_bytes() == b"one\n"
