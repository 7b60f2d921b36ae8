"""One run among killed and stopped processes until it is done: what was struck, what it cost."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import psutil

from sage_dask.cluster.timed_server import TimedServerProcess
from tests.chaos.cluster import Cluster
from tests.chaos.driver import BATCH_SIZE, BATCHES_IN_FLIGHT

_DRIVER = Path(__file__).with_name("driver.py")

# Every process of a run has it in its environment, and is found by it.
_MARK = "SAGE_DASK_CHAOS_MARK"

# Of a whole run, and of the processes that a killed driver leaves until they notice.
_PATIENCE_S = 90
_ORPHAN_S = 20

# Kills that end calls which are then made again.  A process that is stopped loses none.
_KILLS = {"driver", "worker", "server", "scheduler"}

WINDOW = BATCH_SIZE * BATCHES_IN_FLIGHT


class Strike(NamedTuple):
    """Something that is to go wrong."""

    num_calls: int
    """Once so many calls were made, and then"""
    delay_s: float
    """so much later,"""
    what: str
    """this."""


@dataclass
class Outcome:
    """What a run went through."""

    seconds: float = 0.0
    num_starts: int = 0
    num_calls: int = 0
    struck: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    """Processes that were still there after the end."""

    @property
    def most_repeated(self) -> int:
        """Calls that may have been made twice: a kill costs what is under way, and no more."""
        return WINDOW * sum(what in _KILLS for what in self.struck)


class Trouble:
    """Runs the driver until it is done, and strikes at random moments.

    Args:
        folder: Of input and output.
        seed: Chooses what is struck, and when.
        num_records: Of the input.
    """

    def __init__(self, folder: Path, seed: int, num_records: int) -> None:
        self._folder = folder
        self._random = random.Random(seed)
        self._mark = f"{seed}-{uuid.uuid4().hex}"
        self._environment = {**os.environ, _MARK: self._mark}
        self._outcome = Outcome()
        self._is_own_cluster = self._random.random() < 0.3
        self._plan = self._strikes(num_records)
        self._due_s: float | None = None
        self._calls_before = self._calls_at_start = 0
        self._may_fail = False

    def run(self) -> Outcome:
        """Run to the end.

        Raises:
            AssertionError: The driver ended by itself with an error, or not at all.
        """
        started = time.monotonic()
        options = {"seats": 48, "latency_s": 0.05, "echo": True}
        try:
            with TimedServerProcess(**options) as server, self._machines() as cluster:
                self._server, self._cluster = server, cluster
                self._drive()
                self._outcome.num_calls = self._calls()
            self._outcome.seconds = time.monotonic() - started
            self._outcome.left = self._left()
        finally:
            for process in self._processes():
                process.kill()
        return self._outcome

    def _strikes(self, num_records: int) -> list[Strike]:
        """Return what goes wrong, the next one last."""
        kinds = ["driver", "worker", "server", "stop"]
        if self._is_own_cluster:
            kinds += ["scheduler"] * 2
        strikes = []
        for _ in range(self._random.randint(2, 4)):
            # One in five comes while everything starts.
            is_early = self._random.random() < 0.2
            num_calls = 0 if is_early else self._random.randrange(1, num_records)
            delay_s = self._random.uniform(0, 4.0 if is_early else 0.5)
            strikes.append(Strike(num_calls, delay_s, self._random.choice(kinds)))
        return sorted(strikes, reverse=True)

    @contextmanager
    def _machines(self) -> Iterator[Cluster | None]:
        if not self._is_own_cluster:
            yield None
            return
        with Cluster(self._environment, self._folder.parent) as cluster:
            yield cluster

    def _drive(self) -> None:
        deadline = time.monotonic() + _PATIENCE_S
        driver = self._start()
        try:
            while (code := driver.poll()) != 0:
                assert time.monotonic() < deadline, f"not done after {_PATIENCE_S} s: {self.told()}"
                if code is not None:
                    assert self._may_fail, f"ended with {code}: {self.told()}"
                    driver = self._start()
                if self._is_due():
                    self._strike(self._plan[-1].what, driver)
                time.sleep(0.02)
        finally:
            if driver.poll() is None:
                driver.kill()
                driver.wait()

    def _is_due(self) -> bool:
        """Return whether the next strike's moment has come."""
        if not self._plan:
            return False
        if self._due_s is None and self._calls() >= self._plan[-1].num_calls:
            self._due_s = time.monotonic() + self._plan[-1].delay_s
        return self._due_s is not None and time.monotonic() >= self._due_s and self._is_met()

    def _is_met(self) -> bool:
        """Return whether the next strike has something to meet.

        A run that can not begin says so: nodes of its own that end as they are started, at once,
        and a scheduler that does not answer, after half a minute.
        """
        of_nodes = self._cluster is None and self._plan[-1].what in ("worker", "stop")
        needs_calls = of_nodes or self._plan[-1].what == "scheduler"
        return not needs_calls or self._calls() > self._calls_at_start

    def told(self) -> str:
        """Return what the drivers said last, and what was struck."""
        log = self._log.read_text() if self._log.exists() else ""
        return f"{self._outcome}\n{log[-3000:]}"

    @property
    def _log(self) -> Path:
        return self._folder.parent / "driver.log"

    def _start(self) -> subprocess.Popen[bytes]:
        self._outcome.num_starts += 1
        self._calls_at_start = self._calls()
        self._may_fail = False
        where = self._cluster.address if self._cluster else f"nodes:{self._random.randint(2, 3)}"
        with self._log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, _DRIVER, self._folder, self._server.endpoint, where],
                stdout=log,
                stderr=log,
                env=self._environment,
                start_new_session=True,
            )

    def _strike(self, what: str, driver: subprocess.Popen[bytes]) -> None:
        if what == "driver":
            driver.kill()
            driver.wait()
            self._may_fail = True
        elif what == "server":
            # What it counts goes with it.
            self._calls_before = self._calls()
            self._server.kill()
            time.sleep(self._random.uniform(0.1, 0.6))
            self._server.start()
        elif what == "scheduler":
            self._cluster.kill_scheduler()
            driver.wait(_PATIENCE_S)
            self._may_fail = True
        elif not self._strike_worker(what, driver):
            # There is none yet: a little later, then.
            return
        self._outcome.struck.append(what)
        self._plan.pop()
        self._due_s = None

    def _strike_worker(self, what: str, driver: subprocess.Popen[bytes]) -> bool:
        """Kill or stop a worker; return whether there was one."""
        workers = self._cluster.workers if self._cluster else _workers_below(driver.pid)
        if not workers:
            return False
        worker = self._random.choice(workers)
        with suppress(psutil.NoSuchProcess):
            if what == "worker":
                worker.kill()
                if self._cluster:
                    self._cluster.replace(worker)
            else:
                worker.suspend()
                time.sleep(self._random.uniform(0.2, 1.0))
                worker.resume()
        return True

    def _calls(self) -> int:
        """Return how many requests were received so far."""
        return self._calls_before + self._server.statistics()["received"]

    def _left(self) -> list[str]:
        """Return the processes that are there when all should have ended, given time to notice."""
        deadline = time.monotonic() + _ORPHAN_S
        while (left := self._processes()) and time.monotonic() < deadline:
            time.sleep(0.05)
        return [repr(process) for process in left]

    def _processes(self) -> list[psutil.Process]:
        """Return the processes of this run."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.environ().get(_MARK) == self._mark:
                    found.append(process)
        return found


def _workers_below(driver: int) -> list[psutil.Process]:
    """Return the worker processes of a driver's own nodes: those that its fork server made."""
    with suppress(psutil.NoSuchProcess):
        below = psutil.Process(driver).children(recursive=True)
        # They bear its command line; it alone is the driver's own child.
        forked = [each for each in below if "forkserver" in " ".join(each.cmdline())]
        return [each for each in forked if each.ppid() != driver]
    return []
