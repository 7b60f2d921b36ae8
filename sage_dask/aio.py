"""One event loop per process, in a thread of its own, for work that mostly waits.

Threads hand a coroutine to ``run`` and block until it is done, so many of them
share one loop and, with it, one pool of connections.  The thread is a daemon
that starts with the first call; a forked child starts one of its own.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import threading
from collections.abc import Awaitable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")

_lock = threading.Lock()
_loop: asyncio.AbstractEventLoop | None = None


def run(awaitable: Awaitable[T]) -> T:
    """Run an awaitable on the process's loop thread and return its result.

    An exception of the awaitable is raised here, and one that ends the wait
    itself (``KeyboardInterrupt``) cancels the awaitable on its way out.

    Raises:
        RuntimeError: The caller is on the loop thread and would wait for itself.
    """
    loop = background_loop()
    if asyncio._get_running_loop() is loop:
        if inspect.iscoroutine(awaitable):
            awaitable.close()
        raise RuntimeError(
            "aio.run was called on the loop thread, which would wait for itself for ever; "
            "write 'await' there, or move the blocking call to a thread with asyncio.to_thread"
        )
    future = submit(awaitable)
    try:
        return future.result()
    except BaseException:
        future.cancel()  # Nothing to do if it is done, which is so for its own exceptions.
        raise


def submit(awaitable: Awaitable[T]) -> Future[T]:
    """Have the process's loop run an awaitable, and return at once."""
    return asyncio.run_coroutine_threadsafe(_awaited(awaitable), background_loop())


def background_loop() -> asyncio.AbstractEventLoop:
    """Return the process's loop, started if this is the first call."""
    global _loop
    with _lock:
        if _loop is None:
            _loop = asyncio.new_event_loop()
            thread = threading.Thread(
                target=_serve, args=(_loop,), name="sage-dask-loop", daemon=True
            )
            thread.start()
        return _loop


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    """Run the loop for the life of the process."""
    asyncio.set_event_loop(loop)
    while True:
        try:
            loop.run_forever()
        except (KeyboardInterrupt, SystemExit):
            # asyncio lets these two out of a task and of the loop as well; the task keeps
            # them for whoever waits for it, and everyone else's tasks must go on.
            continue


async def _awaited(awaitable: Awaitable[T]) -> T:
    """Turn any awaitable into the coroutine that asyncio insists on."""
    return await awaitable


def _forget() -> None:
    """Leave the parent's loop behind: its thread does not exist in a forked child."""
    global _lock, _loop
    _lock = threading.Lock()
    _loop = None


os.register_at_fork(after_in_child=_forget)
