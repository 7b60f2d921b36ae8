"""Programs under a guardian: they end when they should, and so does all that they started."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import psutil
import pytest

from sage_dask.cluster.server_process import ServerProcess
from sage_dask.errors import RunError
from tests.processes import is_gone, left_of

# Starts a grandchild in a session of its own, prints its pid, and does as it is told.
PROGRAM = """
import signal, subprocess, sys, time
grandchild = subprocess.Popen(["sleep", "1000"], start_new_session=True)
if sys.argv[1] == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("grandchild", grandchild.pid, flush=True)
if sys.argv[1] == "short":
    sys.exit(7)
time.sleep(1000)
"""


@pytest.fixture
def start(tmp_path):
    """Lend a function that starts a program; all of them are stopped after the test."""
    processes = []

    def started(manner="obedient", command=None, **options):
        words = command or [sys.executable, "-c", PROGRAM, manner]
        processes.append(ServerProcess(words, os.environ, tmp_path / "log", **options))
        return processes[-1]

    yield started
    for process in processes:
        process.stop()


def grandchild(log):
    """Return the process id that a program told in its log, once it has."""
    while len(words := log.read_text().split()) < 2:
        os.sched_yield()
    return int(words[1])


def test_a_program_that_obeys_ends_by_sigterm(start):
    """Its exit code is that of the signal, as a shell tells it."""
    process = start(command=["sleep", "1000"])

    assert process.poll() is None
    assert process.stop() == 128 + signal.SIGTERM
    assert process.stop() == 128 + signal.SIGTERM
    assert repr(process) == f"<ServerProcess {process.pid}: ended with 143>"


def test_a_program_that_does_not_obey_is_killed(start, tmp_path):
    """After its grace it has no choice, and its grandchild has none either."""
    process = start("stubborn", grace_s=0.1)
    child = grandchild(tmp_path / "log")

    assert process.stop() == 128 + signal.SIGKILL
    assert is_gone(child)


def test_a_program_that_ends_by_itself_is_tidied_up_after(start, tmp_path):
    """Its own exit code is kept, and what it left behind is ended."""
    process = start("short")

    assert process.wait() == 7
    assert is_gone(grandchild(tmp_path / "log"))


def test_the_end_of_the_guardian_is_the_end_of_the_program(start):
    """A guardian that is killed takes its program along, whether anybody looks or not."""
    process = start(command=["sleep", "1000"])
    program = psutil.Process(process.pid)

    program.parent().kill()

    assert left_of([program]) == []
    assert process.wait() == -signal.SIGKILL


def test_what_a_killed_guardian_leaves_of_the_group_is_ended(start, tmp_path):
    """Helpers of the program that share its group end as soon as anybody asks."""
    process = start(command=["sh", "-c", "sleep 1000 & echo helper $!; wait"])
    helper = psutil.Process(grandchild(tmp_path / "log"))

    psutil.Process(process.pid).parent().kill()
    process.wait()

    assert left_of([helper]) == []


def test_a_program_that_is_not_there_is_told(start, tmp_path):
    """The error says where to read more, and the log says why."""
    with pytest.raises(RunError, match=r"/no/such can not be started; what it said is in .*log"):
        start(command=["/no/such"])

    assert "/no/such: No such file or directory" in (tmp_path / "log").read_text()


def test_signals_reach_the_program_as_they_would_without_a_guardian(start):
    """The guardian blocks signals for itself; the program starts with none blocked."""
    process = start(command=["sleep", "1000"])

    status = Path(f"/proc/{process.pid}/status").read_text().splitlines()

    (blocked,) = [line.split()[1] for line in status if line.startswith("SigBlk:")]
    assert int(blocked, 16) == 0
