"""Folders: room, kind of disk, and speed of commits."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sage_dask.doctor.disk import (
    FolderFacts,
    RunFolderFacts,
    folder_findings,
    run_folder_findings,
    spill_findings,
)
from sage_dask.doctor.finding import Mark

GIB, MIB = 2**30, 2**20
WELL = FolderFacts("/data", "ext4", 50 * GIB, 100 * GIB)


@pytest.mark.parametrize(
    ("change", "mark", "told"),
    [
        ({}, Mark.OK, "/data (ext4): 50.0 GiB free of 100.0 GiB"),
        ({"free_bytes": 500 * MIB}, Mark.WARN, "500 MiB free"),
        ({"free_bytes": 5 * MIB}, Mark.FAIL, "5 MiB free"),
        ({"fault": "may not be written to"}, Mark.FAIL, "/data: may not be written to"),
    ],
)
def test_a_folder_needs_room_and_leave(change, mark, told):
    """Below a gibibyte it is told, near nothing a run would fail."""
    (found,) = folder_findings("run folder", replace(WELL, **change))

    assert found.mark is mark
    assert told in found.value
    assert bool(found.advice) == (mark is not Mark.OK)


def test_local_directories_that_are_well_share_a_line():
    """With the least room of any."""
    (found,) = spill_findings({"b": WELL, "a": replace(WELL, free_bytes=20 * GIB)})

    assert (found.mark, found.value) == (Mark.OK, "a, b: at least 20.0 GiB free (ext4)")


@pytest.mark.parametrize(
    ("change", "mark", "told"),
    [
        ({"kind": "tmpfs"}, Mark.WARN, "lies in memory"),
        ({"kind": "nfs4"}, Mark.NOTE, "shared over a network"),
        ({"free_bytes": 5 * MIB}, Mark.FAIL, "5 MiB free"),
    ],
)
def test_a_local_directory_that_is_unfit_names_its_node(change, mark, told):
    """Spilling into memory frees none, and over a network it is slow."""
    (found,) = spill_findings({"gpu-0": replace(WELL, **change)})

    assert found.mark is mark
    assert found.value.startswith("gpu-0: /data")
    assert told in found.value


def test_a_run_folder_says_what_its_journal_would_be():
    """Kind, whether it is there, and how many commits a second the disk takes."""
    _, kind, speed = run_folder_findings(RunFolderFacts(WELL, commit_ms=2.0))

    assert (kind.value, speed.value) == (
        "SQLite, will be made",
        "2.0 ms per commit, 500 a second",
    )
    assert kind.mark is speed.mark is Mark.OK


def test_a_slow_disk_is_warned_of_and_a_holder_noted():
    """Segments are named as what they are on disk."""
    facts = RunFolderFacts(WELL, True, True, holder="process 7 on gpu-0", commit_ms=80)

    _, held, kind, speed = run_folder_findings(facts)

    assert (held.mark, held.value) == (Mark.NOTE, "in use by process 7 on gpu-0")
    assert kind.value == "plain files, there"
    assert (speed.mark, speed.value) == (Mark.WARN, "80.0 ms per commit, 12 a second")


def test_of_a_folder_that_can_not_be_used_nothing_else_is_said():
    """A journal of it would be a guess."""
    found = list(run_folder_findings(RunFolderFacts(replace(WELL, fault="is a file"))))

    assert [finding.mark for finding in found] == [Mark.FAIL]
