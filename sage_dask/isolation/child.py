"""A Python process of our own that answers messages one at a time and can be killed.

It is started afresh, not forked, and without ``multiprocessing``: Dask's workers are
daemons, which may not have such children.  It has a session of its own, so that
Ctrl-C in a terminal does not reach it, and what it started itself dies with it.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, Pipe, wait
from pathlib import Path

from sage_dask import aio

_SCRIPT = Path(__file__).with_name("bootstrap.py")

# From the end of a dying process's pipe to its own end.
_DYING_S = 1.0


class Child:
    """The parent's end.  One thread at a time may ask."""

    def __init__(self) -> None:
        self._connection, theirs = Pipe()
        with theirs:
            # Its life is bound to the thread that starts it, and the loop's lives to the end.
            self._process = aio.run(_started(theirs))
        # Unlike the pipe's end, it tells of death also while grandchildren hold the pipe open.
        self._death = os.pidfd_open(self._process.pid)
        # If it is dead already, whoever asks first is told.
        with suppress(OSError):
            self._connection.send_bytes(pickle.dumps(sys.path))

    @property
    def is_alive(self) -> bool:
        """Whether it can be asked."""
        return not wait([self._death], 0)

    def ask(self, message: bytes, within_s: float | None = None) -> bytes:
        """Send a message and return the answer.

        Args:
            message: What the process is to work on.
            within_s: Most seconds until the answer is here; then the process is killed.

        Raises:
            TimeoutError: It was killed.
            EOFError: It died by itself.
        """
        with self._killed_after(within_s) as is_killed:
            try:
                self._connection.send_bytes(message)
                if self._connection not in wait([self._connection, self._death]):
                    raise EOFError
                answer = self._connection.recv_bytes()
            except (EOFError, OSError):
                answer = None
        if is_killed():
            raise TimeoutError
        if answer is None:
            self.leave(_DYING_S)
            raise EOFError
        return answer

    def leave(self, within_s: float) -> None:
        """Wait for the process to end by itself, though not for ever."""
        wait([self._death], within_s)

    def end(self) -> str:
        """Kill the process and what it started, and return how it ended, in words."""
        self._kill()
        code = self._process.wait()
        self._connection.close()
        os.close(self._death)
        return _ending(code)

    @contextmanager
    def _killed_after(self, seconds: float | None) -> Iterator[Callable[[], bool]]:
        """Have the process killed unless the block ends in time; lend whether it was."""
        is_over = threading.Event()
        if seconds is None:
            yield is_over.is_set
            return

        def kill() -> None:
            is_over.set()
            self._kill()

        timer = threading.Timer(seconds, kill)
        timer.daemon = True
        timer.start()
        try:
            yield is_over.is_set
        finally:
            timer.cancel()
            # It may be at it this very moment; the next message must not find a dying process.
            timer.join()

    def _kill(self) -> None:
        # The number can not be another's: only ``end`` reaps the process.
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def __repr__(self) -> str:
        return f"<Child {self._process.pid}>"


async def _started(theirs: Connection) -> subprocess.Popen[bytes]:
    descriptor = theirs.fileno()
    return subprocess.Popen(
        # -P: modules beside the script must not hide others of their name.
        [sys.executable, "-P", str(_SCRIPT), str(descriptor), str(os.getpid())],
        stdin=subprocess.DEVNULL,
        pass_fds=[descriptor],
        start_new_session=True,
    )


def _ending(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    return f"died with signal {-code} ({signal.Signals(-code).name})"
