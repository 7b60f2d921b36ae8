"""A run waits for a lost scheduler: within bounds, not too eagerly, and goes on once it is back."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from sage_dask.cli.reconnect import (
    LIMIT_S,
    MOST_LOSSES,
    address_of,
    await_scheduler,
    reconnecting,
)
from sage_dask.errors import RunError, SchedulerLostError

ADDRESS = "tcp://head:8786"


class Wait:
    """Waits without waiting, for a scheduler that is back at some second."""

    def __init__(self, back_at_s: float) -> None:
        self.now_s = 0.0
        self.pauses: list[float] = []
        self.asked: list[str] = []
        self.said: list[str] = []
        self._back_at_s = back_at_s

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.pauses.append(seconds)
        self.now_s += seconds

    def is_there(self, address: str) -> bool:
        """Answer for the scheduler."""
        self.asked.append(address)
        return self.now_s >= self._back_at_s

    def until_back(self, scheduler: str = ADDRESS, *, jitter: float = 1.0) -> None:
        """Wait for the scheduler."""
        await_scheduler(
            scheduler,
            SchedulerLostError("gone"),
            say=self.said.append,
            is_there=self.is_there,
            clock=lambda: self.now_s,
            sleep=self.sleep,
            jitter=lambda: jitter,
        )


def test_pauses_grow_up_to_a_limit():
    """A quick restart is met at once; a long absence costs a look every ten seconds."""
    wait = Wait(back_at_s=60)

    wait.until_back()

    assert wait.pauses == [0.5, 1, 2, 4, 8, 10, 10, 10, 10, 10]
    assert wait.asked == [ADDRESS] * len(wait.pauses)


def test_runs_that_lost_one_scheduler_do_not_ask_together():
    """Pauses are spread between the half of them and the whole."""
    early, late = Wait(back_at_s=20), Wait(back_at_s=20)

    early.until_back(jitter=0.0)
    late.until_back(jitter=1.0)

    assert [2 * pause for pause in early.pauses[: len(late.pauses)]] == late.pauses


def test_people_are_told_of_the_wait_and_of_its_end():
    """One line when the scheduler is lost, and one when it is back."""
    wait = Wait(back_at_s=3)

    wait.until_back()

    assert wait.said == [
        f"scheduler {ADDRESS} is lost; waiting up to 10 minutes for it",
        f"scheduler {ADDRESS} is back after 4 s; going on",
    ]


def test_the_wait_has_an_end():
    """A scheduler that stays away ends the run as the loss would have, and exactly in time."""
    wait = Wait(back_at_s=10 * LIMIT_S)

    with pytest.raises(SchedulerLostError) as raised:
        wait.until_back()

    assert wait.now_s == pytest.approx(LIMIT_S)
    assert raised.value.__notes__ == [
        f"no scheduler with a worker answered at {ADDRESS} for 10 min"
    ]


def test_a_scheduler_file_is_read_again_each_time(tmp_path):
    """A scheduler that comes back elsewhere is found, and a file that is gone is waited for."""
    file = tmp_path / "scheduler.json"
    wait = Wait(back_at_s=0)
    look = wait.is_there
    steps = iter([None, '{"addr', '{"address": "tcp://other:1"}'])

    def sleep(_: float) -> None:
        text = next(steps)
        if text is not None:
            file.write_text(text)

    wait.sleep = sleep
    wait.is_there = look
    wait.until_back(str(file))

    assert wait.asked == ["tcp://other:1"]


def test_addresses_are_taken_as_they_are(tmp_path):
    """What is no file is an address; a file that says nothing is refused with its name."""
    broken = tmp_path / "scheduler.json"
    broken.write_text("[]")

    assert address_of(ADDRESS) == ADDRESS
    with pytest.raises(RunError, match=r"scheduler file .* can not be read"):
        address_of(str(broken))


def test_a_run_goes_on_after_each_loss():
    """It is told how often the scheduler was lost, and waits in between."""
    lost = [SchedulerLostError("1"), SchedulerLostError("2")]
    waited = []

    def run(num_lost):
        if num_lost < len(lost):
            raise lost[num_lost]
        return f"done after {num_lost}"

    assert reconnecting(run, wait=waited.append) == "done after 2"
    assert waited == lost


def test_a_scheduler_that_is_lost_for_ever_ends_the_run():
    """After a hundred losses nobody waits any more."""
    told = []

    def run(num_lost):
        told.append(num_lost)
        raise SchedulerLostError("again")

    with pytest.raises(SchedulerLostError):
        reconnecting(run, wait=lambda error: None)

    assert told == list(range(MOST_LOSSES + 1))


def test_other_errors_are_not_waited_for():
    """Only a lost scheduler comes back."""

    def run(num_lost):
        raise RunError("another")

    with pytest.raises(RunError, match="another"):
        reconnecting(run, wait=lambda error: pytest.fail("waited"))


# Live: a scheduler process that is killed, and another one in its place.

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
  - map: {function: "blocking_reconnect:shout"}
sink:
  write_jsonl: {path: out.jsonl}
run: {batch_size: 1}
"""


class Processes:
    """Processes of a test, in its folder, that end with it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        path = os.pathsep.join([str(folder), *(each for each in sys.path if each)])
        self._environment = {**os.environ, "PYTHONPATH": path}
        self.started: list[subprocess.Popen[str]] = []

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start Python with a command line."""
        process = subprocess.Popen(
            [sys.executable, *words],
            cwd=self._folder,
            env=self._environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.started.append(process)
        return process

    def start_cluster(self, port: int) -> list[subprocess.Popen[str]]:
        """Start a scheduler and a worker; they are there some time later."""
        address = f"tcp://127.0.0.1:{port}"
        options = ["--no-dashboard"]
        return [
            self.start("-m", "distributed.cli.dask_scheduler", "--host", address, *options),
            self.start("-m", "distributed.cli.dask_worker", address, "--no-nanny", *options),
        ]

    def close(self) -> None:
        """Kill what is left."""
        for process in self.started:
            process.kill()
            process.communicate()


@pytest.fixture
def processes(tmp_path):
    """Lend processes in a folder that holds a pipeline whose stage blocks."""
    (tmp_path / "blocking_reconnect.py").write_text(BLOCKING)
    (tmp_path / "p.yaml").write_text(PIPELINE)
    rows = [json.dumps({"id": n, "text": f"t{n}"}) for n in range(5)]
    (tmp_path / "in.jsonl").write_text("".join(f"{row}\n" for row in rows))
    processes = Processes(tmp_path)
    yield processes
    (tmp_path / "go").touch()
    processes.close()


@pytest.mark.cluster
def test_a_run_survives_its_scheduler(processes, tmp_path):
    """Killed with work under way, the scheduler is waited for, and the run completes."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    first = processes.start_cluster(port)
    for line in first[1].stderr:
        # It has registered; the run needs a worker from the start.
        if "Registered to" in line:
            break
    command = "from sage_dask.cli import main; main()"
    words = ("p.yaml", "--run-dir", "r", "--reconnect", "--scheduler", f"tcp://127.0.0.1:{port}")
    run = processes.start("-c", command, "run", *words)
    for _ in range(6000):
        if (tmp_path / "begun").exists():
            break
        threading.Event().wait(0.01)
    for process in first:
        process.kill()
    said = next(line for line in run.stderr if "is lost" in line)
    (tmp_path / "go").touch()
    processes.start_cluster(port)
    rest = run.communicate(timeout=100)[1]

    assert run.returncode == 0, rest
    assert said == f"scheduler tcp://127.0.0.1:{port} is lost; waiting up to 10 minutes for it\n"
    assert "going on" in rest
    assert "Traceback" not in rest
    written = [json.loads(row)["text"] for row in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert written == [f"T{n}" for n in range(5)]
