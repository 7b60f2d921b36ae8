"""An event loop whose clock jumps to the next timer instead of waiting for it."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

# Far more than a test needs; a loop without an end is a failure and no hang.
_MOST_TURNS = 200_000


class _NoWait(selectors.DefaultSelector):
    """A selector that hands the time it should wait to the clock."""

    waited_s = 0.0
    turns = 0

    def select(self, timeout: float | None = None) -> Any:
        self.turns += 1
        if timeout is None:
            raise AssertionError("everything waits and nothing will happen: a standstill")
        if self.turns > _MOST_TURNS:
            raise AssertionError(f"no end after {self.turns} turns of the loop")
        self.waited_s += max(0.0, timeout)
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop that never waits: ``time()`` is the time that others would have waited."""

    def __init__(self) -> None:
        self._no_wait = _NoWait()
        super().__init__(self._no_wait)

    def time(self) -> float:
        """Return the virtual time in seconds."""
        return self._no_wait.waited_s


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine in virtual time, from 0 s; a standstill fails the test."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)


def now_s() -> float:
    """Return the virtual time in seconds."""
    return asyncio.get_running_loop().time()


async def settle() -> None:
    """Let every task run until it waits for something else than its turn."""
    for _ in range(8):
        await asyncio.sleep(0)
