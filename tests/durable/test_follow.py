"""A file that grows for those who want to watch."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sage_dask import Failure
from sage_dask.durable.follow import GROWING, Follower
from sage_dask.errors import RunError
from sage_dask.journal.rows import Row, pack

DONE = pack(Row(4, "a", b"", [("a/0", {"x": 1}), ("a/1", {"x": b"\xff"})]))
FAILED = pack(Row(1, "b", b"", failures=[Failure("b", "map", "ValueError", "no", record={"y": 2})]))
DROPPED = pack(Row(2, "c", b"", num_filtered=1))


def lines(folder):
    """Return what the file holds."""
    return [json.loads(line) for line in (folder / GROWING).read_text().splitlines()]


def test_rows_are_there_as_they_come(tmp_path):
    """Each output and each failure is a line at once, behind a line that says what this is."""
    follower = Follower(tmp_path, "out.jsonl")
    follower.open([])
    head = lines(tmp_path)
    follower.add([DONE, DROPPED])
    first = lines(tmp_path)[1:]
    follower.add([FAILED])
    second = lines(tmp_path)[3:]
    follower.close()

    assert head == [
        {"note": "grows while the run goes on; rows come as they are done", "output": "out.jsonl"}
    ]
    assert first[0] == {"id": "a/0", "record": {"x": 1}}
    assert [each["id"] for each in first] == ["a/0", "a/1"]
    assert [(each["id"], each["failed"]["stage"], each["failed"]["input"]) for each in second] == [
        ("b", "map", {"y": 2})
    ]


def test_a_later_start_begins_with_what_is_done(tmp_path):
    """The file never holds less than the journal, nor rows of an earlier start twice."""
    for _ in range(2):
        follower = Follower(tmp_path, "out.jsonl")
        follower.open([DONE, FAILED])
        follower.close()

    assert [each.get("id") for each in lines(tmp_path)] == [None, "a/0", "a/1", "b"]


def test_a_file_that_can_not_be_made_is_told(tmp_path):
    """The path is named, with what to do."""
    with pytest.raises(RunError, match=r"growing.jsonl' can not be written .*without follow"):
        Follower(tmp_path / "gone", "out.jsonl").open([])


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a disk that is always full")
def test_a_full_disk_ends_the_run(tmp_path):
    """Who watches must not be told less than there is."""
    (tmp_path / GROWING).symlink_to("/dev/full")

    with pytest.raises(RunError, match="No space left on device"):
        Follower(tmp_path, "out.jsonl").open([])


def test_a_follower_that_was_never_open_can_be_closed(tmp_path):
    """A run that did not start has no file to close."""
    Follower(tmp_path, "out.jsonl").close()

    assert list(tmp_path.iterdir()) == []
