"""A program in the background that ends when it should, and leaves nothing behind.

It runs under a guardian (``guardian.py``), which outlives this process if it
must: a driver that is killed does not leave a server on the machine.
"""

from __future__ import annotations

import atexit
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from sage_dask.cluster import guardian
from sage_dask.errors import RunError

# Beyond the grace that the program has: the guardian's own tidying up.
_GUARDIAN_S = 15.0


class ServerProcess:
    """One run of a program, from its start to the end of all that it started.

    Args:
        command: The program and its arguments.
        environment: All of its environment variables.
        log: File that takes what it prints; appended to.
        grace_s: How long it may take to end by itself before it is killed.

    Raises:
        RunError: The program can not be started.
    """

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        log: Path,
        *,
        grace_s: float = 10.0,
    ) -> None:
        self._grace_s = grace_s
        self._stopping = threading.Lock()
        words = [str(os.getpid()), str(grace_s), str(log), *command]
        with log.open("ab") as output:
            self._guardian = subprocess.Popen(
                # -P: the guardian's folder holds modules that must not shadow the library's.
                [sys.executable, "-P", guardian.__file__, *words],
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=output,
                start_new_session=True,
            )
        self.pid = self._read_pid(command[0], log)
        """The program's process id."""
        atexit.register(self.stop)

    def poll(self) -> int | None:
        """Return the exit code once nothing of the program is left, None before."""
        code = self._guardian.poll()
        if code is not None and code < 0:
            self._kill_group()
        return code

    def wait(self, timeout_s: float | None = None) -> int | None:
        """Wait for the program's end and return its exit code; None if it still runs."""
        with suppress(subprocess.TimeoutExpired):
            self._guardian.wait(timeout_s)
        return self.poll()

    def kill(self) -> None:
        """End the program with SIGKILL, as a lack of memory does; its helpers end after it."""
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    def stop(self) -> int:
        """End the program in good order, or by force after its grace; return its exit code."""
        with self._stopping:
            if self._guardian.poll() is None:
                self._guardian.send_signal(signal.SIGTERM)
                if self.wait(self._grace_s + _GUARDIAN_S) is None:
                    self._guardian.kill()
                    self._guardian.wait()
            atexit.unregister(self.stop)
        code = self.poll()
        assert code is not None  # noqa: S101 - it was waited for just now
        return code

    def _read_pid(self, program: str, log: Path) -> int:
        """Wait for the guardian's one word."""
        assert self._guardian.stdout is not None  # noqa: S101 - asked for above
        with self._guardian.stdout as said:
            line = said.readline()
        if not line:
            self._guardian.wait()
            raise RunError(f"{program} can not be started; what it said is in {log}")
        return int(line)

    def _kill_group(self) -> None:
        """Do the work of a guardian that was killed itself."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)

    def __repr__(self) -> str:
        code = self.poll()
        state = "running" if code is None else f"ended with {code}"
        return f"<ServerProcess {self.pid}: {state}>"
