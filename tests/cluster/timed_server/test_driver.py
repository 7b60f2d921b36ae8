"""An engine in real time: what it says reaches those who wait, as it is said."""

from __future__ import annotations

import asyncio

import pytest

from sage_dask.cluster.timed_server.driver import BusyError, EngineDriver
from sage_dask.cluster.timed_server.work import EngineStatistics, Finished, Produced, Work

WORK = Work(None, 1, 2, is_streamed=True)


class ToldEngine:
    """An engine that says what it is told to say."""

    next_s = None

    def __init__(self):
        self.keys = []
        self.cancelled = []
        self.news = []

    def submit(self, work, now_s):
        self.keys.append(work.key)

    def cancel(self, key, now_s):
        self.cancelled.append(key)

    def advance(self, now_s):
        news, self.news = self.news, []
        return news

    def statistics(self):
        return EngineStatistics(len(self.keys), 0, 0.0, 0, 0, 0)


def finished(key):
    return Finished(key, 0.0, 0.0, 0.0, 0.0, cached_tokens=0)


def test_tokens_of_a_stream_arrive_before_its_end():
    """A client reads the first token while the rest is computed."""

    async def scenario():
        engine = ToldEngine()
        driver = EngineDriver(engine)
        ticket = driver.submit([WORK, WORK])
        progress = ticket.progress()
        first, second = engine.keys
        engine.news = [Produced(second, 1)]
        driver.advance()

        assert await asyncio.wait_for(anext(progress), 10) == (1, 1)

        engine.news = [Produced(first, 2), finished(second), finished(first)]
        driver.advance()
        assert [each async for each in progress] == [(0, 2)]
        assert [each.key for each in await ticket.finished()] == [first, second]

    asyncio.run(scenario())


def test_what_is_given_up_is_taken_out_of_the_engine():
    """Only its own sequences, and those that are not done yet."""

    async def scenario():
        engine = ToldEngine()
        driver = EngineDriver(engine)
        ticket = driver.submit([WORK, WORK])
        driver.submit([WORK])
        engine.news = [finished(engine.keys[0])]

        driver.cancel(ticket)

        assert engine.cancelled == engine.keys[1:2]

    asyncio.run(scenario())


def test_a_request_is_taken_as_a_whole_or_not_at_all():
    """Two answers do not fit where one would."""

    async def scenario():
        engine = ToldEngine()
        driver = EngineDriver(engine, max_queued=2)
        driver.submit([WORK])

        with pytest.raises(BusyError):
            driver.submit([WORK, WORK])

        assert len(engine.keys) == 1
        driver.submit([WORK])

    asyncio.run(scenario())
