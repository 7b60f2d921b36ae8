"""Serving until told to stop: for the command line, and as somebody's child process."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from sage_dask.cluster.timed_server.options import TimedOptions
from sage_dask.cluster.timed_server.server import TimedServer
from sage_dask.errors import RunError

# After the fault "die": told apart from a defect by whoever watches the process.
_DIED = 70


def serve(
    options: TimedOptions,
    host: str = "127.0.0.1",
    port: int = 8000,
    *,
    say: Callable[[str], None] = print,
    until: threading.Event | None = None,
) -> None:
    """Serve until SIGINT or SIGTERM, or until an event is set.

    Args:
        options: How the server behaves.
        host: Address to listen on.
        port: 0 for any that is free.
        say: Takes the line that tells the address.
        until: Ends it as well; for callers that have another way to stop.

    Raises:
        RunError: The port is taken.
    """
    stop = until or threading.Event()
    with _stopping(stop), own_process_server(options, host, port) as server:
        say(f"timed server on {server.endpoint}, model {options.model!r}; its words are noise")
        stop.wait()


def own_process_server(options: TimedOptions, host: str, port: int) -> TimedServer:
    """Return a server, not started yet, that has this process to itself: ``die`` ends it.

    Raises:
        RunError: The port is taken, or the address not this machine's.
    """
    try:
        return TimedServer(options, host=host, port=port, die=lambda: os._exit(_DIED))
    except OSError as error:
        raise RunError(
            f"timed server: can not listen on {host}:{port}: {error}; choose another port, or 0 "
            "for any free one, and an address of this machine"
        ) from error


@contextmanager
def _stopping(stop: threading.Event) -> Iterator[None]:
    """Have the two signals set an event, where signals can be had: in the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def set_it(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    before = {which: signal.signal(which, set_it) for which in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for which, handler in before.items():
            signal.signal(which, handler)


def main() -> None:
    """Serve as :class:`TimedServerProcess` wants it: options from the pipe, until it is closed."""
    options = TimedOptions(**json.loads(sys.stdin.readline()))
    stop = threading.Event()

    def watch() -> None:
        sys.stdin.read()
        stop.set()

    threading.Thread(target=watch, daemon=True).start()
    serve(options, port=int(sys.argv[1]), until=stop, say=lambda line: print(line, flush=True))
