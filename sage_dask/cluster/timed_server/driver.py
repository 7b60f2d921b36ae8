"""An engine in real time: sets the loop's timer for what comes next, and wakes who waits for it.

All methods are called on the loop's thread.
"""

from __future__ import annotations

import asyncio
import dataclasses
import math
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from itertools import count
from typing import Any

from sage_dask.cluster.timed_server.load import LoadMeter
from sage_dask.cluster.timed_server.pace import Pace
from sage_dask.cluster.timed_server.work import Engine, Finished, Produced, Work


class BusyError(Exception):
    """The queue is full."""


class Ticket:
    """The sequences of one request on their way."""

    def __init__(self, num_sequences: int) -> None:
        self.done: list[Finished | None] = [None] * num_sequences
        """In the order in which they were handed in; complete when ``finished`` returns."""
        self._missing = num_sequences
        self._whole: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._progress: deque[tuple[int, int]] = deque()
        self._news = asyncio.Event()

    async def finished(self) -> list[Finished]:
        """Wait for all sequences."""
        await self._whole
        return [each for each in self.done if each is not None]

    async def progress(self) -> AsyncIterator[tuple[int, int]]:
        """Yield (index of the sequence, tokens of its answer so far) until all are done."""
        while self._progress or not self._whole.done():
            await self._news.wait()
            self._news.clear()
            while self._progress:
                yield self._progress.popleft()

    def tell(self, index: int, event: Produced | Finished) -> None:
        """Take note of what the engine says of a sequence."""
        if isinstance(event, Produced):
            self._progress.append((index, event.tokens))
            self._news.set()
            return
        self.done[index] = event
        self._missing -= 1
        if not self._missing and not self._whole.done():
            self._whole.set_result(None)
            self._news.set()


class EngineDriver:
    """Runs an engine on the event loop.

    Args:
        engine: Whose time begins with 0, now.
        max_queued: Sequences, running and waiting, beyond which none is taken; None for any.
    """

    def __init__(self, engine: Engine, *, max_queued: int | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        self.engine = engine
        self.pace = Pace(self._loop.time())
        self.meter = LoadMeter(self._loop.time())
        self._max_queued = max_queued
        self._tickets: dict[int, tuple[Ticket, int]] = {}
        self._keys = count()
        self._timer: asyncio.TimerHandle | None = None

    def submit(self, works: Sequence[Work]) -> Ticket:
        """Queue the sequences of a request; their keys are replaced.

        Raises:
            BusyError: There are too many already; none of them is queued.
        """
        self._catch_up()
        if self._max_queued is not None and len(self._tickets) + len(works) > self._max_queued:
            raise BusyError
        ticket = Ticket(len(works))
        now_s = self.pace.engine_s(self._loop.time())
        for index, work in enumerate(works):
            key = next(self._keys)
            self._tickets[key] = (ticket, index)
            self.engine.submit(dataclasses.replace(work, key=key), now_s)
        self._settle()
        return ticket

    def cancel(self, ticket: Ticket) -> None:
        """Give up a request whose client has gone."""
        self._catch_up()
        now_s = self.pace.engine_s(self._loop.time())
        for key in [key for key, (owner, _) in self._tickets.items() if owner is ticket]:
            del self._tickets[key]
            self.engine.cancel(key, now_s)
        self._settle()

    def slow(self, factor: float, for_s: float) -> None:
        """Go ``factor`` times slower for a while."""
        self._catch_up()
        self.pace.slow(factor, for_s, self._loop.time())
        self._settle()

    def advance(self) -> None:
        """Let the engine catch up with the clock; done by itself when something is due."""
        self._catch_up()
        self._settle()

    def later(self, delay_s: float, function: Callable[..., None], *arguments: Any) -> None:
        """Call a function after a while of the clock's time."""
        self._loop.call_later(delay_s, function, *arguments)

    def close(self) -> None:
        """Stop the timer."""
        if self._timer is not None:
            self._timer.cancel()

    def _catch_up(self) -> None:
        """Tell those who wait what happened until now."""
        for event in self.engine.advance(self.pace.engine_s(self._loop.time())):
            key: int = event.key  # type: ignore[assignment]  # Keys are made in submit().
            ticket, index = self._tickets[key]
            if isinstance(event, Finished):
                del self._tickets[key]
            ticket.tell(index, event)

    def _settle(self) -> None:
        """Note how full the engine is, and wake up when something happens next."""
        counts = self.engine.statistics()
        self.meter.observe(counts.running, counts.waiting, self._loop.time())
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        next_s = self.engine.next_s
        if next_s is None or math.isinf(when_s := self.pace.clock_s(next_s)):
            return
        self._timer = self._loop.call_at(when_s, self.advance)
