"""Changes of folders that are to outlive a loss of power."""

from __future__ import annotations

import errno
import os

import pytest

from sage_dask.disk import sync_folder


@pytest.mark.parametrize(
    ("number", "is_told"), [(errno.EIO, True), (errno.EINVAL, False), (errno.EOPNOTSUPP, False)]
)
def test_a_folder_that_can_not_be_asked_is_no_error_and_a_disk_that_refuses_is(
    tmp_path, monkeypatch, number, is_told
):
    """Some network file systems know no sync of folders; whatever else goes wrong is told."""

    def refuse(handle):
        os.fstat(handle)
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refuse)
    if is_told:
        with pytest.raises(OSError, match=os.strerror(number)):
            sync_folder(tmp_path)
    else:
        sync_folder(tmp_path)
