"""Partial, rename, and the words for a disk that refuses."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from sage_dask.errors import SinkError
from sage_dask.operators.files import life
from sage_dask.operators.files.life import (
    check_target,
    open_partial,
    partial_path,
    publish,
    remove_partial,
    sink_error,
    writing,
)


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


def test_two_runs_do_not_write_one_file(tmp_path: Path):
    """While a partial is open nobody else may take, check or remove it; afterwards anyone may."""
    target = tmp_path / "out"

    with open_partial(target) as first:
        for refused in (open_partial, check_target, remove_partial):
            with pytest.raises(SinkError, match="written by another run"):
                refused(target)
        first.write(b"rows")

    assert partial_path(target).read_bytes() == b"rows"
    open_partial(target).close()
    assert partial_path(target).read_bytes() == b""


def test_a_partial_that_was_published_meanwhile_is_not_emptied(tmp_path: Path, monkeypatch):
    """A run that opened the partial just before its rename gets a file of its own."""
    target = tmp_path / "out"
    partial_path(target).write_text("whole")
    lock = life._lock

    def publish_first(file, path):
        if not target.exists():
            publish(partial_path(target), target)
        lock(file, path)

    monkeypatch.setattr(life, "_lock", publish_first)
    open_partial(target).close()

    assert target.read_text() == "whole"
