"""A timed server as a process of its own, for tests and benchmarks that kill one."""

from __future__ import annotations

import json
import select
import subprocess
import sys
import urllib.request
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Self

from sage_dask.cluster.timed_server.listener import hold_port
from sage_dask.cluster.timed_server.options import TimedOptions
from sage_dask.errors import RunError

_MODULE = "sage_dask.cluster.timed_server"
_START_TIMEOUT_S = 60.0
_END_TIMEOUT_S = 10.0
_CONTROL_TIMEOUT_S = 10.0


class TimedServerProcess:
    """A timed server in a process of its own, which can be killed and started again.

    Use it in ``with``.  The port stays the same over restarts, and connections are
    refused while there is no process.

    Args:
        options: How it behaves; or name the fields one by one.
        fields: As of :class:`.TimedOptions`.

    Raises:
        RunError: It did not start.
    """

    def __init__(self, options: TimedOptions | None = None, **fields: Any) -> None:
        self.options = options or TimedOptions(**fields)
        self._held = hold_port("127.0.0.1", 0)
        self.port: int = self._held.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.endpoint = f"{self.url}/v1"
        self.metrics = f"{self.url}/metrics"
        self._process: subprocess.Popen[str] | None = None

    @property
    def pid(self) -> int | None:
        """Id of the process, or None while there is none."""
        return self._process.pid if self._process and self._process.poll() is None else None

    def start(self) -> Self:
        """Start the process and wait until it answers; done by ``with``."""
        if self.pid is not None:
            return self
        process = subprocess.Popen(
            [sys.executable, "-m", _MODULE, str(self.port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        # Over the pipe, as a command line can be read by everyone; it stays open, and the
        # process ends when it is closed, however this one ends.
        _send_line(process, json.dumps(asdict(self.options), default=str))
        self._process = process
        if not _says_line(process):
            self.kill()
            raise RunError(
                f"timed server: its process ended as it started, or was silent for "
                f"{_START_TIMEOUT_S:g} s (exit code {process.returncode}); what it said is above"
            )
        return self

    def kill(self) -> None:
        """End it with SIGKILL, as the kernel does when memory runs out."""
        if self._process is not None:
            self._process.kill()
            _reap(self._process)

    def restart(self) -> None:
        """Start it again on the same port, with nothing in its memory."""
        self.kill()
        self.start()

    def close(self) -> None:
        """End it and let go of the port; done by ``with``."""
        if self._process is not None:
            self._process.terminate()
            _reap(self._process)
        self._held.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *error: object) -> None:
        self.close()

    def statistics(self) -> Mapping[str, Any]:
        """Return how full it was since the last reset, and what it was asked."""
        counts: Mapping[str, Any] = self._ask("stats")
        return counts

    def ledger(self) -> Mapping[str, Mapping[str, int]]:
        """Return how often each request was received and answered, by its id."""
        entries: Mapping[str, Mapping[str, int]] = self._ask("ledger")
        return entries

    def reset(self) -> None:
        """Start all counts anew."""
        self._ask("reset", {})

    def brown_out(self, factor: float, seconds: float) -> None:
        """Have everything take ``factor`` times as long for a while from now on."""
        self._ask("brownout", {"factor": factor, "for_s": seconds})

    def outage(self, seconds: float) -> None:
        """Be gone for a while, from a twentieth of a second from now on."""
        self._ask("outage", {"for_s": seconds})

    def _ask(self, word: str, body: Mapping[str, Any] | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}/timed/{word}", data)  # noqa: S310 - http only
        with urllib.request.urlopen(request, timeout=_CONTROL_TIMEOUT_S) as answer:  # noqa: S310
            return json.load(answer)

    def __repr__(self) -> str:
        state = f"process {self.pid}" if self.pid else "not running"
        return f"<TimedServerProcess {self.url} {state}, {self.options.seats} seats>"


def _send_line(process: subprocess.Popen[str], line: str) -> None:
    if process.stdin is not None:
        process.stdin.write(line + "\n")
        process.stdin.flush()


def _says_line(process: subprocess.Popen[str]) -> bool:
    """Wait for the line that tells the address; False if it ends, or stays silent for long."""
    out: Any = process.stdout
    is_ready, _, _ = select.select([out], [], [], _START_TIMEOUT_S)
    return bool(is_ready and out.readline())


def _reap(process: subprocess.Popen[str]) -> None:
    """Wait for the end of a process that was told to; one that does not listen is killed."""
    try:
        process.communicate(timeout=_END_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
