"""Runs a program and sees to the end of all that it started.

Run as a script, beside whoever wants the program: ``guardian.py PARENT GRACE_S
LOG COMMAND...``.  It ends the program when it is told to (SIGTERM) and when the
parent is gone, however that came about.  What the program leaves behind, such
as the engines of a server that was killed, the kernel hands to the guardian,
which ends it too.  Imports nothing of sage_dask, so that it costs a few MB.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

# From linux/prctl.h.
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36

# How soon the end of the parent is noticed; the program's own is noticed at once.
_LOOK_S = 0.5
# For helpers of the program that tidy up after it, such as Python's resource tracker.
_TIDY_S = 1.0
_KILL_S = 5.0

_LIBC = ctypes.CDLL(None, use_errno=True)
_SIGNALS = (signal.SIGTERM, signal.SIGCHLD)


class Guardian:
    """One program and everything below it."""

    def __init__(self, command: list[str], log: Path) -> None:
        with log.open("ab") as output:
            # A session of its own keeps Ctrl-C in the terminal from it; the parent decides.
            self.pid = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_as_a_child,  # safe, as this process has one thread
            ).pid
        self.exit_code: int | None = None

    def guard(self, parent: int, grace_s: float) -> int:
        """Wait for the program's end, or bring it about; return its exit code."""
        while self.exit_code is None and os.getppid() == parent:
            received = signal.sigtimedwait(_SIGNALS, _LOOK_S)
            if received is not None and received.si_signo == signal.SIGTERM:
                break
            self._reap()
        if self.exit_code is None:
            os.kill(self.pid, signal.SIGTERM)
            self._wait_for_program(grace_s)
        self._wait_for_all(_TIDY_S)
        self._kill_all()
        # Killed by us, if nothing else is known.
        return 128 + signal.SIGKILL if self.exit_code is None else self.exit_code

    def _wait_for_program(self, limit_s: float) -> None:
        deadline = time.monotonic() + limit_s
        while self.exit_code is None and (left_s := deadline - time.monotonic()) > 0:
            signal.sigtimedwait([signal.SIGCHLD], min(left_s, _LOOK_S))
            self._reap()

    def _wait_for_all(self, limit_s: float) -> None:
        deadline = time.monotonic() + limit_s
        while self._reap() and (left_s := deadline - time.monotonic()) > 0:
            signal.sigtimedwait([signal.SIGCHLD], min(left_s, 0.05))

    def _kill_all(self) -> None:
        """Kill what is left, and what that started meanwhile."""
        deadline = time.monotonic() + _KILL_S
        while self._reap() and time.monotonic() < deadline:
            for process in psutil.Process().children(recursive=True):
                try:
                    process.kill()
                except psutil.NoSuchProcess:
                    continue
            signal.sigtimedwait([signal.SIGCHLD], 0.05)

    def _reap(self) -> bool:
        """Take note of all that ended; return whether anything is left."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if pid == self.pid:
                code = os.waitstatus_to_exitcode(status)
                self.exit_code = code if code >= 0 else 128 - code


def _as_a_child() -> None:
    """In the program's process: take the signals again, and end with the guardian."""
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def main(arguments: list[str]) -> int:
    """Guard one command; return its exit code, 128 and more for a signal."""
    parent, grace_s, log, *command = arguments
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    _LIBC.prctl(_PR_SET_CHILD_SUBREAPER, 1)
    try:
        guardian = Guardian(command, Path(log))
    except OSError as error:
        print(f"{command[0]}: {error.strerror}", file=sys.stderr)
        return 127
    # The one word that the parent waits for; then nobody needs to read here any more.
    os.write(sys.stdout.fileno(), f"{guardian.pid}\n".encode())
    os.close(sys.stdout.fileno())
    return guardian.guard(int(parent), float(grace_s))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
