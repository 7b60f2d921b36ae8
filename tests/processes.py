"""What has become of processes that a test started, or had started."""

from __future__ import annotations

import time
from collections.abc import Iterable

import psutil


def is_gone(pid: int) -> bool:
    """Return whether the process of an id has ended, be it that nobody has asked how."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def left_of(processes: Iterable[psutil.Process], within_s: float = 60.0) -> list[psutil.Process]:
    """Return which of some processes still run; they have so many seconds to end.

    psutil itself would wait until nothing is left of an orphan.  That is up to the machine's first
    process, and those of containers look for what has ended every few seconds only.
    """
    deadline = time.monotonic() + within_s
    left = list(processes)
    while left := [each for each in left if each.is_running() and not is_gone(each.pid)]:
        if time.monotonic() > deadline:
            break
        time.sleep(0.01)
    return left
