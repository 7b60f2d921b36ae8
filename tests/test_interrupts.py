"""The first signal lets what is under way end, the second does not; in one process and in whole."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest

from sage_dask.cli.signals import Terminated, signals_raise
from sage_dask.errors import PlanError
from sage_dask.interrupts import VARIABLE, stopping_on_signals

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Run:
    """Stands for a run: notes what it is told."""

    def __init__(self) -> None:
        self.reasons: list[BaseException] = []
        self.num_wakes = 0
        self.notes: list[tuple[str, bool]] = []
        self.went_on = False
        self.has_terminal = True
        self._is_told = threading.Event()

    def wake(self) -> None:
        """Count the calls."""
        self.num_wakes += 1

    def tell(self, text: str) -> None:
        """Keep a note, and whether it came in the main thread."""
        if not self.has_terminal:
            raise OSError("the terminal is gone")
        self.notes.append((text, threading.current_thread() is threading.main_thread()))
        self._is_told.set()

    def be_told(self) -> None:
        """Wait for the first note."""
        assert self._is_told.wait(60)

    def go(self, *signals: int, then=lambda: None) -> None:
        """Get signals on the way, and do something after them."""
        with stopping_on_signals(self.reasons.append, self.wake, self.tell):
            for number in signals:
                signal.raise_signal(number)
            then()
            self.went_on = True


def wait_for_ever() -> None:
    """Wait as a main thread does: signals are handled, and nothing else ends it."""
    while True:
        threading.Event().wait(60)


@pytest.fixture(autouse=True)
def signals():
    """Lend the signals as the command line has them, and give them back untouched."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    with signals_raise():
        within = {number: signal.getsignal(number) for number in SIGNALS}
        yield
        assert {number: signal.getsignal(number) for number in SIGNALS} == within
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def run():
    """Lend a run."""
    return Run()


def test_the_first_ctrl_c_stops_and_raises_at_the_end(run):
    """The block goes on to its end, the run is told why once, and the interrupt comes after."""
    with pytest.raises(KeyboardInterrupt) as raised:
        run.go(signal.SIGINT)

    assert run.went_on
    assert run.reasons == [raised.value]
    assert run.num_wakes == 1


def test_people_are_told_by_another_thread(run):
    """A note says what is awaited and how to end that, and no handler has to wait for it."""
    with pytest.raises(KeyboardInterrupt):
        run.go(signal.SIGINT, then=run.be_told)

    ((text, in_main),) = run.notes
    assert text == "stopping: what is under way is finished first; Ctrl-C again stops now"
    assert not in_main


def test_the_second_ctrl_c_raises_at_once(run):
    """Whoever presses again does not wait."""
    with pytest.raises(KeyboardInterrupt) as raised:
        run.go(signal.SIGINT, signal.SIGINT)

    assert not run.went_on
    assert len(run.reasons) == 1
    assert raised.value is not run.reasons[0]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_supervisor_that_repeats_itself_means_one_signal(run, monkeypatch, number):
    """``timeout`` sends SIGTERM twice: the work under way still has its time."""
    monkeypatch.setenv(VARIABLE, "3600")

    with pytest.raises(Terminated) as raised:
        run.go(number, number, signal.SIGTERM, then=run.be_told)

    assert run.went_on
    assert run.reasons == [raised.value]
    assert run.num_wakes == 1
    assert run.notes == [
        ("stopping: what is under way is finished first, for 3600 s at most", False)
    ]


@pytest.mark.parametrize("before", [[], [signal.SIGINT], [signal.SIGTERM], [signal.SIGHUP]])
def test_a_supervisors_patience_has_an_end(run, monkeypatch, before):
    """Once the grace is over what is under way is cut off, whatever else came before."""
    monkeypatch.setenv(VARIABLE, "0.2")

    with pytest.raises(Terminated):
        run.go(*before, signal.SIGTERM, then=wait_for_ever)

    assert not run.went_on
    assert len(run.reasons) == 1


def test_ctrl_c_does_not_wait_for_a_supervisors_patience(run, monkeypatch):
    """Whoever presses Ctrl-C after a SIGTERM need not press twice."""
    monkeypatch.setenv(VARIABLE, "3600")

    with pytest.raises(KeyboardInterrupt) as raised:
        run.go(signal.SIGTERM, signal.SIGINT)

    assert not run.went_on
    assert not isinstance(raised.value, Terminated)


def test_time_is_kept_whatever_becomes_of_the_note(run, monkeypatch):
    """A note that can not be shown does not make the wait endless."""
    monkeypatch.setenv(VARIABLE, "0")
    run.has_terminal = False

    with pytest.raises(Terminated):
        run.go(signal.SIGTERM, then=wait_for_ever)


def test_what_the_block_raises_comes_first(run):
    """An error of the run itself is not hidden by the interrupt that came before it."""

    def fail():
        raise ValueError("of the run")

    with pytest.raises(ValueError, match="of the run"):
        run.go(signal.SIGINT, then=fail)


@pytest.mark.parametrize("handler", [signal.SIG_IGN, lambda number, frame: None])
def test_signals_that_do_not_raise_stop_nothing(run, handler):
    """Under nohup, or where a program has its own way with a signal, the run goes on."""
    before = signal.signal(signal.SIGHUP, handler)

    run.go(signal.SIGHUP)

    signal.signal(signal.SIGHUP, before)
    assert run.went_on
    assert run.reasons == []


def test_other_threads_leave_signals_alone(run):
    """Python takes no handlers outside of the main thread; the block runs without."""
    found = []

    def look():
        found.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=run.go, kwargs={"then": look})
    thread.start()
    thread.join()

    assert found == [signal.getsignal(signal.SIGINT)]


@pytest.mark.parametrize("given", ["soon", "-1", "nan", "inf", "1e300"])
def test_a_grace_that_is_no_time_is_refused(run, monkeypatch, given):
    """The variable is named, with what it holds."""
    monkeypatch.setenv(VARIABLE, given)

    with pytest.raises(PlanError, match=f"{VARIABLE}='{given}'"):
        run.go()


# The whole: a command in a process of its own, as a terminal has it.

NUM_RECORDS = 12

BLOCKING = """\
import time
from pathlib import Path


def shout(record):
    Path("begun").touch()
    for _ in range(6000):
        if Path("go").exists():
            return {**record, "text": record["text"].upper()}
        time.sleep(0.01)
    raise TimeoutError("nobody let this go on")
"""

PIPELINE = """\
pipeline: shout
source:
  read_jsonl: {path: in.jsonl, id: id}
stages:
  - map: {function: "blocking_shout:shout"}
sink:
  write_jsonl: {path: out.jsonl}
run: {batch_size: 1}
"""

# Whoever started the tests may ignore SIGINT, as a shell's background jobs do.
COMMAND = """\
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from sage_dask.cli import main
main(prog_name="sage-dask")
"""

PLACES = [
    pytest.param([], id="local"),
    pytest.param(["--nodes", "2"], id="nodes", marks=[pytest.mark.cluster, pytest.mark.slow]),
]


class Command:
    """``sage-dask`` in a session of its own."""

    def __init__(self, folder: Path, *words: str) -> None:
        self._folder = folder
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
        self._process = subprocess.Popen(
            [sys.executable, "-c", COMMAND, *words],
            cwd=folder,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.stderr = ""

    def interrupt(self) -> None:
        """Press Ctrl-C: a terminal sends it to all processes of the group."""
        os.killpg(self._process.pid, signal.SIGINT)

    def wait_for(self, text: str) -> None:
        """Read what it says up to a line with a text."""
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self.stderr += line
            if text in line:
                return
        pytest.fail(f"{text!r} was not said:\n{self.stderr}")

    def wait_for_file(self, name: str) -> None:
        """Wait until it made a file."""
        for _ in range(6000):
            if (self._folder / name).exists():
                return
            threading.Event().wait(0.01)
        pytest.fail(f"{name!r} was not made")

    def wait(self) -> int:
        """Return its exit code, with all that it said."""
        self.stderr += self._process.communicate(timeout=100)[1]
        return self._process.returncode

    def leftovers(self) -> list[psutil.Process]:
        """Return the processes of the session that stay; some end only after the first has."""
        found: list[psutil.Process] = []
        for _ in range(1000):
            found = [each for each in psutil.process_iter() if self._has(each)]
            if not found:
                break
            threading.Event().wait(0.01)
        return found

    def end(self) -> None:
        """Kill what is left."""
        for process in psutil.process_iter():
            if self._has(process):
                process.kill()

    def _has(self, process: psutil.Process) -> bool:
        try:
            is_dead = process.status() == psutil.STATUS_ZOMBIE
            return not is_dead and os.getsid(process.pid) == self._process.pid
        except (psutil.NoSuchProcess, ProcessLookupError):
            return False


@pytest.fixture
def command(tmp_path):
    """Lend the function that starts a command in a folder with a pipeline that blocks."""
    (tmp_path / "blocking_shout.py").write_text(BLOCKING)
    (tmp_path / "p.yaml").write_text(PIPELINE)
    rows = [json.dumps({"id": n, "text": f"t{n}"}) for n in range(NUM_RECORDS)]
    (tmp_path / "in.jsonl").write_text("".join(f"{row}\n" for row in rows))
    started = []

    def start(*words):
        started.append(Command(tmp_path, *words))
        return started[-1]

    yield start
    (tmp_path / "go").touch()
    for each in started:
        each.end()


def texts(folder: Path) -> list[str]:
    """Return what was written."""
    return [json.loads(line)["text"] for line in (folder / "out.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("where", PLACES)
def test_ctrl_c_keeps_what_is_under_way_and_the_run_goes_on(command, tmp_path, where):
    """The records under way are done, the command to go on with is said, and it completes."""
    first = command("run", "p.yaml", "--run-dir", "r", *where)
    first.wait_for_file("begun")
    first.interrupt()
    first.wait_for("stopping: ")
    (tmp_path / "go").touch()
    code = first.wait()
    status = command("status", "r", "--json")
    second = command("resume", "r")

    assert code == 130, first.stderr
    assert first.stderr.endswith("go on with: sage-dask resume r\n")
    assert first.leftovers() == []
    assert not (tmp_path / "out.jsonl").exists()
    assert (second.wait(), status.wait()) == (0, 0), second.stderr
    assert texts(tmp_path) == [f"T{n}" for n in range(NUM_RECORDS)]


@pytest.mark.parametrize("where", PLACES)
def test_ctrl_c_twice_stops_now_and_leaves_nothing_running(command, tmp_path, where):
    """What is under way is cut off, no process stays, and the run still goes on later."""
    first = command("run", "p.yaml", "--run-dir", "r", *where)
    first.wait_for_file("begun")
    first.interrupt()
    first.wait_for("stopping: ")
    first.interrupt()
    code = first.wait()
    left = first.leftovers()
    (tmp_path / "go").touch()
    second = command("resume", "r")

    assert code == 130, first.stderr
    assert "0 records safe in 'r'; go on with: sage-dask resume r" in first.stderr
    assert left == []
    assert second.wait() == 0, second.stderr
    assert texts(tmp_path) == [f"T{n}" for n in range(NUM_RECORDS)]


def test_without_a_journal_one_ctrl_c_stops_at_once(command, tmp_path):
    """A run that keeps nothing ends as ever: there is nothing to be gained by waiting."""
    first = command("run", "p.yaml")
    first.wait_for_file("begun")
    first.interrupt()

    assert first.wait() == 130
    assert "stopping: " not in first.stderr
