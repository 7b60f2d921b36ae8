"""The process's loop thread: results, errors, cancellation, forks."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Generator
from typing import Any

import pytest

from sage_dask import aio


class _Now:
    """An awaitable that is no coroutine."""

    def __await__(self) -> Generator[Any, None, str]:
        return (yield from asyncio.sleep(0, "now").__await__())


async def _thread_name() -> str:
    return threading.current_thread().name


def test_result_comes_back_from_the_loop_thread():
    """A coroutine runs on the loop thread and its result returns to the caller."""
    assert aio.run(_thread_name()) == "sage-dask-loop"


def test_any_awaitable_will_do():
    """An awaitable that is no coroutine runs as well."""
    assert aio.run(_Now()) == "now"


@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt, SystemExit])
def test_error_is_raised_in_the_caller_and_the_loop_lives_on(kind):
    """What a coroutine raises reaches its caller, and the next coroutine still runs."""

    async def fail() -> None:
        raise kind("planted")

    with pytest.raises(kind, match="planted"):
        aio.run(fail())

    assert aio.run(_thread_name()) == "sage-dask-loop"


def test_threads_share_one_loop():
    """Coroutines of several threads meet on one loop: each waits for all the others."""
    barrier = asyncio.Barrier(4)
    loops: list[asyncio.AbstractEventLoop] = []

    async def meet() -> None:
        await barrier.wait()
        loops.append(asyncio.get_running_loop())

    threads = [threading.Thread(target=aio.run, args=(meet(),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)

    assert loops == [aio.background_loop()] * 4


def test_calling_run_on_the_loop_thread_is_refused():
    """Waiting on the loop thread for the loop thread is an error, not a standstill."""

    async def nested() -> str:
        return aio.run(_thread_name())

    with pytest.raises(RuntimeError, match="would wait for itself"):
        aio.run(nested())


def test_an_interrupted_wait_cancels_the_coroutine(monkeypatch):
    """Ctrl-C in the waiting thread cancels what it waited for."""
    cancelled = threading.Event()
    schedule = asyncio.run_coroutine_threadsafe

    async def hang() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    def interrupted(coroutine, loop):
        future = schedule(coroutine, loop)
        # Let the coroutine reach its wait before the interrupt arrives.
        schedule(asyncio.sleep(0), loop).result()
        monkeypatch.setattr(future, "result", _interrupt)
        return future

    monkeypatch.setattr(asyncio, "run_coroutine_threadsafe", interrupted)
    with pytest.raises(KeyboardInterrupt):
        aio.run(hang())

    assert cancelled.wait(timeout=30)


def test_submit_returns_at_once_and_cancels_on_demand():
    """What is submitted runs beside its caller, who may take the result or call it off."""
    is_open, was_cancelled = asyncio.Event(), threading.Event()

    async def wait_for_it() -> str:
        try:
            await is_open.wait()
        except asyncio.CancelledError:
            was_cancelled.set()
            raise
        return "opened"

    kept, called_off = aio.submit(wait_for_it()), aio.submit(wait_for_it())
    aio.run(asyncio.sleep(0))
    assert not kept.done()
    called_off.cancel()
    assert was_cancelled.wait(timeout=30)
    aio.background_loop().call_soon_threadsafe(is_open.set)

    assert kept.result(timeout=30) == "opened"


def test_submit_may_be_called_on_the_loop_thread():
    """It does not wait, so it is no standstill there."""

    async def nested() -> str:
        return await asyncio.wrap_future(aio.submit(_Now()))

    assert aio.run(nested()) == "now"


def _interrupt() -> None:
    raise KeyboardInterrupt


def test_a_forked_child_has_a_loop_of_its_own():
    """After a fork the child runs coroutines although the parent's thread is gone."""
    aio.run(_thread_name())

    child = os.fork()
    if child == 0:
        signal.alarm(30)  # A child without a loop would wait for ever, and its parent with it.
        name = aio.run(_thread_name())
        os._exit(0 if name == "sage-dask-loop" else 1)
    _, status = os.waitpid(child, 0)

    assert os.waitstatus_to_exitcode(status) == 0
