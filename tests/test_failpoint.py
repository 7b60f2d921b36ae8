"""Tests of named places where a process dies."""

from __future__ import annotations

import os
import subprocess
import sys

_VISITS = """
from sage_dask import failpoint
for place in ["other", "here", "other", "here", "here"]:
    print(place, flush=True)
    failpoint.reach(place)
"""


def visits(failpoint):
    """Return the places that a process came to, and its exit code."""
    environment = {**os.environ, "SAGE_DASK_FAILPOINT": failpoint}
    command = [sys.executable, "-c", _VISITS]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True)
    return ended.stdout.split(), ended.returncode


def test_the_process_ends_where_and_when_it_is_told_to():
    """The second time at a place is where ``here:2`` ends, with the exit code of a SIGKILL."""
    assert visits("here:2") == (["other", "here", "other", "here"], 137)


def test_the_first_time_counts_where_no_number_is_given():
    """A place without a number ends the process at once."""
    assert visits("here") == (["other", "here"], 137)


def test_nothing_ends_where_nothing_is_told():
    """Without the variable every place is passed, as often as it is reached."""
    assert visits("") == (["other", "here", "other", "here", "here"], 0)
