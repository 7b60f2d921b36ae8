"""What sinks of one file have in common."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from sage_dask.errors import SinkError
from sage_dask.operators.files.sink import RowSink
from sage_dask.record import Failure, Record


@dataclass
class WriteValues(RowSink):
    """A sink of numbers that refuses odd ones."""

    def encode(self, record_id: str, record: Record) -> bytes:
        if record["n"] % 2:
            raise ValueError(f"{record['n']} is odd")
        return f"{record_id}={record['n']}\n".encode()


def test_rows_with_no_form_are_returned_and_the_others_written(tmp_path: Path):
    """Each failure carries the record's id, the stage ``write`` and the error."""
    sink = WriteValues(tmp_path / "out")
    sink.open()

    failures = sink.write(["a", "b", "c"], [{"n": 0}, {"n": 1}, {"n": 2}])
    sink.close()

    assert failures == [Failure("b", "write", "ValueError", "1 is odd")]
    assert (tmp_path / "out").read_text() == "a=0\nc=2\n"


def test_ids_and_records_go_in_pairs(tmp_path: Path):
    """A batch that lost one of them is not written askew."""
    sink = WriteValues(tmp_path / "out")
    sink.open()

    with pytest.raises(ValueError, match="zip"):
        sink.write(["a"], [{"n": 0}, {"n": 2}])

    assert "0 records" in sink.abort()


def test_a_sink_must_be_opened(tmp_path: Path):
    """Each call before open says so; abort has nothing to keep."""
    sink = WriteValues(tmp_path / "out")

    for call in (lambda: sink.write([], []), lambda: sink.write_failures([]), sink.close):
        with pytest.raises(SinkError, match="is not open; call open"):
            call()
    assert sink.abort() == ""


def test_a_close_that_fails_can_be_aborted(tmp_path: Path):
    """The sentence says where each file is by then: the failed file was published first."""
    target = tmp_path / "out"
    sink = WriteValues(target)
    sink.open()
    sink.write(["a"], [{"n": 0}])
    sink.write_failures([Failure("b", "read", "E", "why")])
    target.mkdir()

    with pytest.raises(SinkError):
        sink.close()

    assert sink.abort() == (
        f"1 records are in '{target}.partial', 1 failed ones in '{target}.failed.jsonl'"
    )
