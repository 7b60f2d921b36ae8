"""Counting tokens, and working on many things at once."""

from __future__ import annotations

import asyncio

import pytest

from sage_dask.endpoint.context import RequestContext, current, working
from sage_dask.endpoint.usage import Usage
from sage_dask.errors import StopRun
from sage_dask.operators.connection import at_once, token_usage


@pytest.mark.parametrize(
    ("body", "usage"),
    [
        ({"usage": {"prompt_tokens": 3, "completion_tokens": 4}}, Usage(0, 0, 0, 3, 0, 4)),
        (
            {"usage": {"prompt_tokens": 3, "prompt_tokens_details": {"cached_tokens": 2}}},
            Usage(0, 0, 0, 3, 2),
        ),
        ({"usage": {"total_tokens": 5}}, Usage(0, 0, 0, 5)),
        ({"usage": {"prompt_tokens": 3, "prompt_tokens_details": None}}, Usage(0, 0, 0, 3)),
        ({"usage": None}, Usage()),
        ({"usage": {"prompt_tokens": "many", "completion_tokens": -1}}, Usage()),
        ({}, Usage()),
        (["text"], Usage()),
    ],
)
def test_tokens_are_counted_where_the_server_says_them(body, usage):
    """What is missing or no count is nothing, and never an error of the record."""
    assert token_usage(body) == usage


def test_all_are_under_way_at_the_same_time():
    """Each waits for all the others, which can only end if none waits for its turn."""
    barrier = asyncio.Barrier(50)

    async def work(number):
        await barrier.wait()
        return number * 2

    async def run():
        return await asyncio.wait_for(at_once(work, range(50)), timeout=30)

    assert asyncio.run(run()) == [number * 2 for number in range(50)]


def test_what_one_raises_stands_in_its_place():
    """The others go on, and the order is kept."""

    async def work(number):
        if number == 1:
            raise ValueError("one")
        return number

    first, failed, last = asyncio.run(at_once(work, range(3)))

    assert (first, last) == (0, 2)
    assert isinstance(failed, ValueError)


def test_an_order_to_stop_calls_the_others_off():
    """StopRun comes out as itself, and whoever still waits is cancelled."""
    cancelled = []

    async def work(number):
        if number == 3:
            raise StopRun("no key")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(number)
            raise

    with pytest.raises(StopRun, match="no key") as caught:
        asyncio.run(at_once(work, range(5)))

    assert sorted(cancelled) == [0, 1, 2, 4]
    assert caught.value.__context__ is None


def test_all_count_for_the_same_one():
    """Tasks see copies of the context: what they count adds up all the same, set or not."""

    async def work(number):
        current().usage.requests += number

    async def unset():
        await at_once(work, range(4))
        return current().usage.requests

    with working(RequestContext()) as context:
        asyncio.run(at_once(work, range(4)))

    assert context.usage.requests == 6
    assert asyncio.run(unset()) == 6
