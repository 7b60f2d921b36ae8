"""Looking at folders: nothing is left in them."""

from __future__ import annotations

import os

import pytest

from sage_dask.doctor.questions.folder import look_at_folder, look_at_run_folder
from sage_dask.journal.lock import RunLock


def test_a_folder_that_is_there(tmp_path):
    """Room, kind of file system, and no fault; a sync was tried, and left nothing."""
    facts = look_at_run_folder(tmp_path)

    assert (facts.folder.path, facts.folder.fault) == (str(tmp_path), "")
    assert 0 < facts.folder.free_bytes < facts.folder.total_bytes
    assert not facts.has_journal
    assert facts.commit_ms is not None
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_yet_is_not_made(tmp_path):
    """What is told is what would hold of it, under its own name."""
    wanted = tmp_path / "runs" / "rag"

    facts = look_at_run_folder(wanted)

    assert (facts.folder.path, facts.folder.fault) == (str(wanted), "")
    assert list(tmp_path.iterdir()) == []


def test_a_path_through_a_file_is_no_folder(tmp_path):
    """The file is named, since it is in the way."""
    (tmp_path / "file").write_text("")

    facts = look_at_run_folder(tmp_path / "file" / "rag")

    assert facts.folder.path == str(tmp_path / "file")
    assert facts.folder.fault == "is a file, not a folder"
    assert facts.commit_ms is None


def test_a_folder_that_is_gone_is_told(tmp_path):
    """Such as a worker's, after it ended."""
    assert look_at_folder(tmp_path / "gone").fault == "is not there"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_leave_is_told(tmp_path):
    """Nothing is tried in it."""
    tmp_path.chmod(0o500)

    assert look_at_run_folder(tmp_path).folder.fault == "may not be written to"


def test_a_folder_in_use_says_by_whom(tmp_path):
    """Process and host, as its lock says."""
    with RunLock(tmp_path):
        assert f"process {os.getpid()} on " in look_at_run_folder(tmp_path).holder


def test_a_journal_of_segments_is_recognised(tmp_path):
    """The folder that holds them decides, on whatever disk it lies."""
    (tmp_path / "journal").mkdir()

    facts = look_at_run_folder(tmp_path)

    assert facts.has_journal
    assert facts.has_segments
