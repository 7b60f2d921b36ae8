"""Looking at something again and again while it runs, and what the looks say together."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Self, TypeAlias

Look: TypeAlias = Mapping[str, float]
Looks: TypeAlias = Sequence[tuple[float, Look]]
"""Each with its time, in seconds of the monotonic clock."""


class Watch:
    """Looks at something every now and then, on a thread of its own; use it in ``with``.

    Args:
        look: Returns figures by name.  Where it raises, as a server that is down makes it,
            there is no look.
        every_s: Time between two looks.
    """

    def __init__(self, look: Callable[[], Look], every_s: float = 0.25) -> None:
        self.looks: list[tuple[float, Look]] = []
        self._look = look
        self._every_s = every_s
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._is_over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._is_over.wait(self._every_s):
            at_s = time.monotonic()
            with suppress(Exception):
                self.looks.append((at_s, self._look()))


def between(looks: Looks, from_s: float, until_s: float) -> list[Look]:
    """Return the looks of a time."""
    return [look for at_s, look in looks if from_s <= at_s <= until_s]


def at(looks: Looks, name: str, at_s: float) -> float:
    """Return what a count was at a time, as if it had grown evenly between two looks."""
    before_s, before = next(
        ((each_s, look[name]) for each_s, look in reversed(looks) if each_s <= at_s),
        (looks[0][0], looks[0][1][name]),
    )
    after_s, after = next(
        ((each_s, look[name]) for each_s, look in looks if each_s > at_s), (before_s, before)
    )
    if after_s == before_s:
        return before
    return before + (after - before) * (at_s - before_s) / (after_s - before_s)


def growth(looks: Looks, name: str, from_s: float, until_s: float) -> float:
    """Return by how much a count grew per second."""
    return (at(looks, name, until_s) - at(looks, name, from_s)) / (until_s - from_s)
