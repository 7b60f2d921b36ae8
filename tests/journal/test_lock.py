"""One process at a time holds a run folder, as long as it lives and no longer."""

from __future__ import annotations

import errno
import fcntl
import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sage_dask.journal import lock
from sage_dask.journal.lock import Holder, RunLock, holder
from sage_dask.journal.store import JournalError

_HOLD = """
import sys
from pathlib import Path
from sage_dask.journal.lock import RunLock
lock = RunLock(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""

_BEGET_AND_DIE = """
import multiprocessing, os, signal, sys
from pathlib import Path
from sage_dask.journal.lock import RunLock

def stay(ready):
    ready.send(os.getpid())
    signal.pause()

if __name__ == "__main__":
    held = RunLock(Path(sys.argv[1]))
    here, there = multiprocessing.Pipe()
    multiprocessing.get_context(sys.argv[2]).Process(target=stay, args=(there,)).start()
    print(here.recv(), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""

# Several processes wish the folder; whoever gets it looks whether it is alone.
_FIGHT = """
import sys
from pathlib import Path
from sage_dask.journal.lock import RunLock, holder
from sage_dask.journal.store import JournalError
folder, wins = Path(sys.argv[1]), 0
for _ in range(200_000):
    try:
        with RunLock(folder):
            (folder / "inside").touch(exist_ok=False)
            assert holder(folder).pid == __import__("os").getpid()
            (folder / "inside").unlink()
            wins += 1
    except JournalError as error:
        assert "is in use by" in str(error), error
    if wins == 50:
        break
print(wins)
"""


@contextmanager
def _elsewhere(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Lend a process that holds the folder."""
    command = [sys.executable, "-c", _HOLD, str(folder)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


def test_a_second_process_is_refused_by_name(tmp_path: Path):
    """The message names who holds the folder, where and since when, and what to do."""
    with _elsewhere(tmp_path) as process:
        found = holder(tmp_path)
        with pytest.raises(JournalError) as raised:
            RunLock(tmp_path)

    assert found is not None
    assert (found.pid, found.host) == (process.pid, socket.gethostname())
    assert str(raised.value) == (
        f"run folder {str(tmp_path)!r} is in use by process {process.pid} on host {found.host} "
        f"since {found.started_at}; wait for its end, or give another run_dir"
    )


def test_a_process_that_was_killed_holds_nothing(tmp_path: Path):
    """After kill -9 the folder is free at once, though the file still names the dead."""
    with _elsewhere(tmp_path) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()

        assert holder(tmp_path) is None
        assert json.loads((tmp_path / "lock").read_text())["pid"] == process.pid
        with RunLock(tmp_path) as mine:
            assert mine.is_held
            assert holder(tmp_path) is not None


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_children_do_not_hold_what_their_parent_held(tmp_path: Path, method: str):
    """A worker process that outlives a killed driver does not keep the folder."""
    script = tmp_path / "driver.py"
    script.write_text(_BEGET_AND_DIE)
    with subprocess.Popen(
        [sys.executable, str(script), str(tmp_path), method], stdout=subprocess.PIPE, text=True
    ) as driver:
        assert driver.stdout is not None
        child = int(driver.stdout.readline())
        assert driver.wait() == -signal.SIGKILL

        os.kill(child, 0)
        assert holder(tmp_path) is None
        RunLock(tmp_path).release()
        os.kill(child, signal.SIGKILL)


def test_children_do_not_free_what_their_parent_holds(tmp_path: Path):
    """A forked child that ends, releases or leaves the with block changes nothing."""
    with RunLock(tmp_path) as mine:
        child = multiprocessing.get_context("fork").Process(target=mine.release)
        child.start()
        child.join()

        assert child.exitcode == 0
        assert holder(tmp_path) is not None
        with pytest.raises(JournalError, match=f"process {os.getpid()} "):
            RunLock(tmp_path)


def test_looking_and_closing_the_file_frees_nothing(tmp_path: Path):
    """Locks of POSIX end when any descriptor of the file is closed; this one must not."""
    with RunLock(tmp_path):
        assert holder(tmp_path) == holder(tmp_path)
        (tmp_path / "lock").read_text()
        with pytest.raises(JournalError, match="is in use by process"):
            RunLock(tmp_path)

        assert holder(tmp_path) is not None
    assert holder(tmp_path) is None
    RunLock(tmp_path).release()


def test_processes_that_fight_hold_it_one_at_a_time(tmp_path: Path):
    """Each of three gets it fifty times in the end, and never two at once."""
    command = [sys.executable, "-c", _FIGHT, str(tmp_path)]
    fighters = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]

    assert [fighter.communicate()[0] for fighter in fighters] == ["50\n"] * 3
    assert [fighter.returncode for fighter in fighters] == [0] * 3


def test_nobody_is_named_before_the_file_says_who(tmp_path: Path, monkeypatch):
    """While a folder is being taken the line of the last holder is not taken for the new one's."""
    (tmp_path / "lock").write_text('{"pid": 1, "host": "old", "started_at": "then"}\n')
    seen: list[Holder | None] = []
    messages: list[str] = []
    write = lock._write

    def look_first(file: int, named: Holder) -> None:
        seen.append(holder(tmp_path))
        with pytest.raises(JournalError) as raised:
            RunLock(tmp_path)
        messages.append(str(raised.value))
        write(file, named)
        seen.append(holder(tmp_path))

    monkeypatch.setattr(lock, "_write", look_first)
    with RunLock(tmp_path):
        found = holder(tmp_path)

    assert seen == [None, None]
    assert found is not None
    assert found.pid == os.getpid()
    assert "another process that has just begun or just ended" in messages[0]


def test_a_line_that_is_torn_names_nobody(tmp_path: Path):
    """A holder that is just writing its line is not described by half of it."""
    with RunLock(tmp_path):
        (tmp_path / "lock").write_text('{"pid": 12')

        assert holder(tmp_path) is None


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL])
def test_file_systems_without_locks_keep_nobody_out(tmp_path: Path, monkeypatch, code: int):
    """The run goes on there, and says that the lock is not held."""

    def refuse(*arguments: object) -> bytes:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "fcntl", refuse)

    with RunLock(tmp_path) as first, RunLock(tmp_path) as second:
        assert not first.is_held
        assert not second.is_held
        assert holder(tmp_path) is None


def test_a_folder_that_can_not_be_locked_is_named(tmp_path: Path, monkeypatch):
    """A missing folder and a failing disk are told in the system's words; no file stays open."""
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(JournalError, match=r"missing.*No such file or directory.*folder is there"):
        RunLock(tmp_path / "missing")

    def fail(*arguments: object) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(fcntl, "fcntl", fail)
    with pytest.raises(JournalError, match=r"can not be locked \(Input/output error"):
        RunLock(tmp_path)

    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_where_nobody_ever_ran_nobody_holds(tmp_path: Path):
    """A folder without a lock file, or no folder at all, has no holder, and gets no file."""
    assert holder(tmp_path) is None
    assert holder(tmp_path / "missing") is None
    assert list(tmp_path.iterdir()) == []
