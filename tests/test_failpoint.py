"""Places where a test can have the process die."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from sage_dask import failpoint

_SCRIPT = """
from sage_dask import failpoint
for name in ("commit", "export", "commit", "commit"):
    print(name, flush=True)
    failpoint.reach(name)
"""


def reached(value):
    """Return the exit code of a process that passes some places, and the places it came to."""
    environment = {**os.environ, failpoint.VARIABLE: value}
    command = [sys.executable, "-c", _SCRIPT]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return ended.returncode, ended.stdout.split()


@pytest.mark.parametrize(
    ("value", "code", "num_places"),
    [
        ("commit", 137, 1),
        ("commit:2", 137, 3),
        ("commit:3", 137, 4),
        ("export:1", 137, 2),
        ("commit:4", 0, 4),
        ("", 0, 4),
    ],
)
def test_the_process_dies_at_the_named_hit_of_the_named_place(value, code, num_places):
    """It ends as a killed one does, at that place and not before, and nowhere else."""
    assert reached(value) == (code, ["commit", "export", "commit", "commit"][:num_places])
