"""The failed file beside an output."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sage_dask.errors import SinkError
from sage_dask.operators.files.companion import FailedFile, check_failed_path, failed_path
from sage_dask.record import Failure

FAILURE = Failure("a", "embed", "ValueError", "empty", record={"x": b"bytes"})


def test_no_file_is_made_before_the_first_failure(tmp_path: Path):
    """A run in which nothing failed leaves nothing behind."""
    file = FailedFile(tmp_path / "out.jsonl")

    file.write([])

    assert file.num_failures == 0
    assert file.keep() == ""
    assert list(tmp_path.iterdir()) == []


def test_failures_are_published_as_lines(tmp_path: Path):
    """A record that no JSON file could hold is there all the same."""
    output = tmp_path / "out.jsonl"
    file = FailedFile(output)

    file.write([FAILURE, FAILURE])
    file.publish()

    rows = [json.loads(line) for line in failed_path(output).read_text().splitlines()]
    assert file.num_failures == 2
    assert [row["input"] for row in rows] == [{"x": "b'bytes'"}] * 2


def test_an_aborted_run_says_where_its_failures_are(tmp_path: Path):
    """The partial keeps them and the target is not touched."""
    output = tmp_path / "folder.index"
    failed_path(output).write_text("earlier\n")
    file = FailedFile(output)
    file.write([FAILURE])

    sentence = file.keep()

    assert sentence == f"1 failed ones in '{failed_path(output)}.partial'"
    assert failed_path(output).read_text() == "earlier\n"


def test_a_folder_in_its_place_is_found_before_the_run(tmp_path: Path):
    """The failed file's own name is checked, not only the output's."""
    failed_path(tmp_path / "out").mkdir()

    with pytest.raises(SinkError, match=r"out.failed.jsonl' is a folder"):
        check_failed_path(tmp_path / "out")
