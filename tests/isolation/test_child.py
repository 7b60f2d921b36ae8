"""A process of our own: answers, deaths, and that none is left."""

from __future__ import annotations

import os
import signal
import sys
import threading

import cloudpickle
import psutil
import pytest

from sage_dask.isolation.child import Child
from sage_dask.stage import Operator
from tests.processes import left_of

# Subprocesses can not import tests.
cloudpickle.register_pickle_by_value(sys.modules[__name__])


def subprocesses():
    """Return the subprocesses of isolated stages in which anything of this process works."""
    return [
        process
        for process in psutil.Process().children(recursive=True)
        if any(part.endswith("bootstrap.py") for part in process.cmdline())
    ]


class Obeying(Operator):
    """Does what records say."""

    def process_batch(self, records):
        return [record["do"]() for record in records]


def asked(child, action, within_s=None):
    """Return what an action in the child returns."""
    (outcome,) = cloudpickle.loads(
        child.ask(cloudpickle.dumps([{"do": action}]), within_s)
    ).outcomes
    return outcome


@pytest.fixture
def child():
    """Lend a process that is ready, and see that it is gone afterwards."""
    child = Child()
    child.ask(cloudpickle.dumps(Obeying()))
    yield child
    child.end()
    assert subprocesses() == []


def test_it_is_another_process_in_a_session_of_its_own(child):
    """Ctrl-C in a terminal goes to the terminal's session, which is not the child's."""
    pid, session = asked(child, lambda: (os.getpid(), os.getsid(0)))

    assert pid == session
    assert session not in (os.getpid(), os.getsid(0))


def test_it_finds_modules_where_its_parent_does(child):
    """The path is handed over, with folders that were added while the parent ran."""
    assert asked(child, lambda: sys.path) == sys.path


@pytest.mark.parametrize(
    ("death", "told"),
    [
        (lambda: os._exit(3), "ended with exit code 3"),
        (lambda: os._exit(0), "ended with exit code 0"),
        (lambda: os.kill(os.getpid(), signal.SIGSEGV), "died with signal 11 (SIGSEGV)"),
        (lambda: os.kill(os.getpid(), signal.SIGKILL), "died with signal 9 (SIGKILL)"),
    ],
)
def test_a_death_is_noticed_and_told(death, told):
    """Whoever asks learns that there will be no answer, and how the process ended."""
    child = Child()
    child.ask(cloudpickle.dumps(Obeying()))

    with pytest.raises(EOFError):
        asked(child, death)

    assert not child.is_alive
    assert child.end() == told


def test_a_death_is_noticed_while_grandchildren_hold_the_pipe():
    """A process that forked before it died is not waited for until they are gone, too."""

    def fork_and_die():
        if os.fork():
            os._exit(3)
        signal.pause()

    child = Child()
    child.ask(cloudpickle.dumps(Obeying()))

    with pytest.raises(EOFError):
        asked(child, fork_and_die)

    assert child.end() == "ended with exit code 3"


@pytest.mark.parametrize("is_locked", [False, True])
def test_what_takes_too_long_is_killed(is_locked):
    """At the deadline a process ends, also one that holds the interpreter's lock."""

    def pause():
        import ctypes

        (ctypes.PyDLL if is_locked else ctypes.CDLL)(None).pause()

    child = Child()
    child.ask(cloudpickle.dumps(Obeying()))

    with pytest.raises(TimeoutError):
        asked(child, pause, within_s=0.3)

    assert child.end() == "died with signal 9 (SIGKILL)"


def test_a_process_takes_along_what_it_started():
    """Programs that it ran do not go on without it."""

    def start():
        import subprocess

        return subprocess.Popen(["sleep", "1000"]).pid

    child = Child()
    child.ask(cloudpickle.dumps(Obeying()))
    started = psutil.Process(asked(child, start))

    child.end()

    assert left_of([started]) == []


def test_an_answer_in_time_leaves_it_alive(child):
    """A deadline that was kept kills nobody, then or later."""
    assert asked(child, os.getpid, within_s=1000) == asked(child, os.getpid, within_s=1000)
    assert child.is_alive
    assert not any(isinstance(thread, threading.Timer) for thread in threading.enumerate())


GUARDED = """
import os, sys
import cloudpickle
from sage_dask.isolation.child import Child
from sage_dask.operators.basic import Map

def work(record):
    import ctypes
    print("at work", flush=True)
    ctypes.PyDLL(None).pause()

child = Child()
child.ask(cloudpickle.dumps(Map(work)))
child.ask(cloudpickle.dumps([{}]))
"""


def test_it_dies_with_its_parent():
    """When the parent is killed the child goes, too, though it holds the interpreter's lock."""
    import subprocess

    with subprocess.Popen([sys.executable, "-c", GUARDED], stdout=subprocess.PIPE) as parent:
        assert parent.stdout.readline() == b"at work\n"
        parent.kill()

        # Both hold the other end: it ends when both are gone.
        assert parent.stdout.read() == b""
