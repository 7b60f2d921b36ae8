"""Signals end a command in good order."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from sage_dask.cli.signals import Terminated, signals_raise


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_is_raised_with_the_code_of_the_shell(number, code):
    """A signal becomes an interrupt, so that whoever handles Ctrl-C handles it too."""
    before = signal.getsignal(number)

    with pytest.raises(KeyboardInterrupt) as raised, signals_raise():
        os.kill(os.getpid(), number)

    assert isinstance(raised.value, Terminated)
    assert raised.value.exit_code == code
    assert signal.getsignal(number) == before


def test_an_ignored_signal_stays_ignored():
    """Under nohup a closed terminal does not end the command."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)

    with signals_raise():
        os.kill(os.getpid(), signal.SIGHUP)
        found = signal.getsignal(signal.SIGHUP)

    signal.signal(signal.SIGHUP, before)
    assert found == signal.SIG_IGN


def test_other_threads_leave_signals_alone():
    """Python refuses handlers outside the main thread; the block runs without them."""
    entered = []

    def enter():
        with signals_raise():
            entered.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()

    assert entered == [signal.getsignal(signal.SIGTERM)]
