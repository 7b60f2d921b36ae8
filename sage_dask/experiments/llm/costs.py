"""CPU time of everything that this process started, as the kernel counts it."""

from __future__ import annotations

from collections.abc import Collection

import psutil


def spent_s(but: Collection[int | None] = ()) -> float:
    """Return the CPU seconds of this process and those it started, so far.

    Args:
        but: Ids of processes that are left out, with all that they started.
    """
    return sum(_of(process) for process in _family(psutil.Process(), but))


def _family(process: psutil.Process, but: Collection[int | None]) -> list[psutil.Process]:
    if process.pid in but:
        return []
    try:
        children = process.children()
    except psutil.NoSuchProcess:
        return []
    return [process, *(each for child in children for each in _family(child, but))]


def _of(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return float(times.user + times.system)
