"""Printing to those who may have stopped reading, in real processes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

RUN = [sys.executable, "-c", "from sage_dask.cli import main; main()", "run", "p.yaml"]


@pytest.mark.parametrize(
    "gone", [">&-", "2>&-", ">&- 2>&-", "2>&1 | true", "| true", "2>/dev/full"]
)
def test_a_run_outlives_those_who_read_what_it_prints(folder, gone):
    """With its streams closed, full, or read by nobody, a run does its job and says so."""
    # The exit code of a pipe's left end is bash's.
    script = f'set -o pipefail; "$@" {gone}'

    ran = subprocess.run(["bash", "-c", script, "bash", *RUN], capture_output=True, text=True)

    assert ran.returncode == 0, ran.stderr
    assert len(Path("out.jsonl").read_text().splitlines()) == 3
    assert "Traceback" not in ran.stderr


def test_a_report_that_finds_no_room_is_an_error(folder):
    """A result that could not be printed is told of in one sentence."""
    with Path("/dev/full").open("w") as full:
        ran = subprocess.run(RUN, stdout=full, stderr=subprocess.PIPE, text=True)

    assert ran.returncode == 1
    assert "error: the result can not be printed (No space left on device)" in ran.stderr
    assert "Traceback" not in ran.stderr
