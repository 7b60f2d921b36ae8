"""A scheduler and workers as processes of their own, which can be killed one by one."""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Self

import psutil

_NUM_WORKERS = 2
_PATIENCE_S = 30


class Cluster:
    """A Dask cluster as users start it, by its commands; use it in ``with``.

    Args:
        environment: Of all its processes.
        folder: Where they write their files.
    """

    def __init__(self, environment: Mapping[str, str], folder: Path) -> None:
        self._environment = environment
        self._folder = folder
        self._scheduler: psutil.Popen | None = None
        self.workers: list[psutil.Popen] = []
        self.address = ""

    def __enter__(self) -> Self:
        self._start()
        return self

    def __exit__(self, *error: object) -> None:
        self._end()

    def kill_scheduler(self) -> None:
        """Kill the scheduler, and start another cluster elsewhere; the workers end with it."""
        self._scheduler.kill()
        self._end()
        self._start()

    def replace(self, worker: psutil.Popen) -> None:
        """Start another worker in the place of one that is gone."""
        worker.wait()
        self.workers.remove(worker)
        self.workers.append(self._worker())

    def _start(self) -> None:
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            port = found.getsockname()[1]
        self.address = f"tcp://127.0.0.1:{port}"
        self._scheduler = self._process("scheduler", "--port", str(port))
        self.workers = [self._worker() for _ in range(_NUM_WORKERS)]
        # Workers of the same age are there, or about to be, once the scheduler can be reached.
        deadline = time.monotonic() + _PATIENCE_S
        log = self._folder / "worker.log"
        while log.read_text().count("Registered to:") < len(self.workers):
            assert time.monotonic() < deadline, f"no cluster: {log.read_text()[-2000:]}"
            time.sleep(0.05)

    def _worker(self) -> psutil.Popen:
        return self._process("worker", self.address, "--nthreads", "2", "--no-nanny")

    def _process(self, kind: str, *arguments: str) -> psutil.Popen:
        dask = str(Path(sys.executable).with_name("dask"))
        with (self._folder / f"{kind}.log").open("ab") as log:
            return psutil.Popen(
                [dask, kind, *arguments, "--host", "127.0.0.1", "--no-dashboard"],
                stdout=log,
                stderr=log,
                env=self._environment,
                cwd=self._folder,
                start_new_session=True,
            )

    def _end(self) -> None:
        for process in [*self.workers, self._scheduler]:
            if process.is_running():
                process.kill()
            process.wait()
        (self._folder / "worker.log").unlink()
