"""Cores, memory, files and ports of a machine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from sage_dask.doctor.finding import Mark
from sage_dask.doctor.machine import (
    MachineFacts,
    PortFacts,
    least_limit,
    limit_files,
    machine_findings,
    open_file_findings,
    port_findings,
)

GIB = 2**30
FACTS = MachineFacts(
    cores=8,
    usable_cores=4,
    memory_bytes=16 * GIB,
    free_bytes=9 * GIB,
    allowed_bytes=8 * GIB,
    dask_bytes=8 * GIB,
    open_files=20_000,
    most_open_files=20_000,
)


def test_a_machine_with_enough_is_well():
    """What is usable stands beside what is there."""
    findings = list(machine_findings(FACTS))

    assert [finding.mark for finding in findings] == [Mark.OK] * 3
    assert [finding.value for finding in findings] == [
        "4 usable of 8",
        "8.0 GiB usable of 16.0 GiB, 9.0 GiB free in the machine",
        "20,000 at once",
    ]


def test_memory_that_dask_takes_for_more_is_warned_of():
    """Limits of a control group that Dask does not see end workers without a note."""
    _, found, _ = machine_findings(replace(FACTS, dask_bytes=16 * GIB))

    assert found.mark is Mark.WARN
    assert "Dask takes it for 16.0 GiB" in found.value
    assert "memory_limit, 8.0 GiB over" in found.advice


@pytest.mark.parametrize(
    ("most", "advice"), [(4096, "ulimit -n 4096"), (256, "administrator"), (10**6, "-n 8192")]
)
def test_too_few_open_files_say_who_may_raise_them(most, advice):
    """The user up to the hard limit, an administrator beyond it."""
    (found,) = open_file_findings("open files", 256, most)

    assert (found.mark, found.value) == (Mark.WARN, "256 at once")
    assert advice in found.advice


def test_a_port_that_is_taken_names_who_has_it():
    """The system does not name another user's process."""
    free, ours, other = port_findings(
        [
            PortFacts(8786),
            PortFacts(8786, "0.0.0.0", "dask (process 7)"),
            PortFacts(8787, "127.0.0.1"),
        ]
    )

    assert (free.mark, free.value) == (Mark.OK, "8786 is free, for a scheduler")
    assert (ours.mark, ours.value) == (
        Mark.NOTE,
        "8786 is taken on 0.0.0.0 by dask (process 7)",
    )
    assert "another user" in other.value


def test_every_group_that_a_process_lies_in_may_limit_it():
    """In both versions of control groups, up to the root."""
    text = "4:cpu,memory:/a/b\n3:cpu:/x\n0::/c\n"

    assert limit_files(text) == [
        Path("/sys/fs/cgroup/memory/a/b/memory.limit_in_bytes"),
        Path("/sys/fs/cgroup/memory/a/memory.limit_in_bytes"),
        Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
        Path("/sys/fs/cgroup/c/memory.max"),
        Path("/sys/fs/cgroup/memory.max"),
    ]


def test_the_least_limit_counts():
    """No limit is a word in one version, and a number beyond all memory in the other."""
    assert least_limit(["max\n", "4096\n", "8192\n", "9223372036854771712\n"]) == 4096
    assert least_limit(["max\n", "9223372036854771712\n"]) is None
