"""The number of commits that were acknowledged, in its own file."""

from __future__ import annotations

import pytest

from sage_dask.journal.high_water import HighWater, read_mark


def test_the_number_rises(tmp_path):
    """The file tells the last number; it goes with the log that it watches over."""
    path = tmp_path / "mark"

    mark = HighWater(path, 7)
    assert read_mark(path) == 7
    mark.raise_to(2**40)
    assert read_mark(path) == 2**40
    mark.close(is_settled=False)
    assert read_mark(path) == 2**40
    HighWater(path, 3).close(is_settled=True)

    assert not path.exists()


@pytest.mark.parametrize("data", [b"", b"\1" * 12, b"\0" * 40])
def test_what_is_not_whole_raises_no_alarm(tmp_path, data):
    """A file that a loss of power cut short counts as none, and so does one that is not there."""
    path = tmp_path / "mark"
    assert read_mark(path) == 0

    path.write_bytes(data)

    assert read_mark(path) == 0
