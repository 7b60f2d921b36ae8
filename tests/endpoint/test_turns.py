"""Quota, then rate, then a slot."""

from __future__ import annotations

import asyncio

import pytest

from sage_dask.endpoint.context import RequestContext
from sage_dask.endpoint.quota import Quota
from sage_dask.endpoint.rate import RateLimit
from sage_dask.endpoint.slots import RequestSlots
from sage_dask.endpoint.turns import Turns
from sage_dask.errors import StopRun
from sage_dask.testing import FakeClock

A, B = "http://a/v1", "http://b/v1"


class Place:
    """Turns at two servers, on a clock that is moved by whoever sleeps."""

    def __init__(self, **limits):
        self.clock = FakeClock()
        self.quota = Quota([A, B])
        self.context = RequestContext(RequestSlots(self.clock, lambda: 0.0), job="j", task="t")
        rate = RateLimit(**limits, clock=self.clock, sleep=self.clock.sleep)
        self.turns = Turns(rate, self.quota, 600.0, clock=self.clock, sleep=self.clock.sleep)

    def allot(self, slots, version=1):
        self.context.slots.allot({A: {"j": slots}, B: {"j": slots}}, version)

    async def take(self):
        return await self.turns.take(self.context, None, 1)

    async def waiting(self):
        """Start to take a turn, and return once it waits for a slot."""
        task = asyncio.create_task(self.take())
        for _ in range(20):
            await asyncio.sleep(0)
        assert self.context.slots.statistics().waiting == 1
        return task


def test_an_endpoint_without_quota_gets_no_turn():
    """The other one is taken while one of them is paused."""
    place = Place()
    place.quota.pause(A, 100.0)

    slots = [asyncio.run(place.take()) for _ in range(3)]

    assert {slot.endpoint for slot in slots} == {B}
    assert place.clock() == 0.0


def test_with_all_paused_the_turn_comes_with_the_first_that_is_not():
    """The wait ends when the first of them may be asked again."""
    place = Place()
    place.quota.pause(A, 100.0)
    place.quota.pause(B, 30.0)

    assert asyncio.run(place.take()).endpoint == B
    assert place.clock() == 30.0


def test_a_pause_beyond_all_patience_stops_the_run():
    """Both servers are named, and how long they want to be left alone."""
    place = Place()
    place.quota.pause(A, 700.0)
    place.quota.pause(B, 800.0)

    with pytest.raises(StopRun, match=f"{A} and {B}: wants no request for 700 s"):
        asyncio.run(place.take())


def test_a_quota_that_runs_out_while_waiting_for_a_slot_is_noticed():
    """Whoever waited for a slot of a server that is paused by then gets one of the other."""
    place = Place()

    async def paused_meanwhile():
        place.allot(0)
        task = await place.waiting()
        place.quota.pause(A, 500.0)
        place.context.slots.allot({A: {"j": 1}}, 2)
        await asyncio.sleep(0)
        place.allot(1, 3)
        return await task

    assert asyncio.run(paused_meanwhile()).endpoint == B
    assert place.context.slots.statistics().in_flight == 1


def test_a_turn_that_is_cancelled_is_not_paid_for():
    """A request that was never sent does not count in the minute."""
    place = Place(requests_per_minute=1)

    async def cancelled_while_waiting():
        place.allot(0)
        task = await place.waiting()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        place.allot(1)
        return await place.take()

    asyncio.run(cancelled_while_waiting())

    assert place.clock() == 0.0
