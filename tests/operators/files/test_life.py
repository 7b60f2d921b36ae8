"""Partial, rename, and the words for a disk that refuses."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from sage_dask.errors import SinkError
from sage_dask.operators.files.life import check_target, partial_path, publish, sink_error, writing


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_is_called_so(code: int):
    """Quotas and limits of file sizes mean the same to the user, and so does the mend."""
    error = sink_error(Path("out"), OSError(code, os.strerror(code)), "5 records are safe")

    assert str(error).startswith("disk full writing 'out'")
    assert str(error).endswith(": 5 records are safe; free space and run again")


def test_other_errors_of_the_disk_keep_their_cause():
    """The system's own words are in the message and its error behind it."""
    with pytest.raises(SinkError, match="Input/output error") as raised, writing(Path("out")):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    assert isinstance(raised.value.__cause__, OSError)


def test_publishing_replaces_what_was_there(tmp_path: Path):
    """The target is the new file and the partial is gone."""
    target = tmp_path / "out"
    target.write_text("old")
    partial_path(target).write_text("new")

    publish(partial_path(target), target)

    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("out", "new")]


def test_a_device_is_no_target():
    """It could not be replaced by a finished file."""
    with pytest.raises(SinkError, match="pipe or a device"):
        check_target(Path(os.devnull))
