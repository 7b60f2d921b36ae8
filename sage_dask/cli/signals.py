"""SIGTERM and SIGHUP end a command the way Ctrl-C does: in good order."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGTERM, signal.SIGHUP)

# What a shell reports for a program that a signal ended.
_SHELL_OFFSET = 128


class Terminated(KeyboardInterrupt):
    """A batch system, a supervisor or a closed terminal wants the command to end."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_code = _SHELL_OFFSET + number


@contextmanager
def signals_raise() -> Iterator[None]:
    """Raise ``Terminated`` in the block for each of the signals that is not ignored."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    try:
        for number, handler in before.items():
            # Ignored by whoever started this, such as nohup: it means to go on.
            if handler == signal.SIG_DFL:
                signal.signal(number, _raise)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _raise(number: int, _: FrameType | None) -> None:
    raise Terminated(number)
