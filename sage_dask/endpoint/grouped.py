"""A thread that event loops ask, and that answers as many questions at a time as have come.

For work that blocks and costs little more for many than for one, such as a
transaction: the busier it is, the larger the groups.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, Generic, TypeAlias, TypeVar

Q = TypeVar("Q")
A = TypeVar("A")

_Asked: TypeAlias = tuple[Q, "asyncio.Future[A]"]


class GroupedThread(Generic[Q, A]):
    """Answers questions of any number of event loops in a thread of its own.

    It starts with the first question, in a forked child anew.

    Args:
        name: Of the thread.
        answer: Called there with the questions of a group; returns one answer to each and
            raises nothing.
        most: Largest group.
    """

    def __init__(
        self, name: str, answer: Callable[[Sequence[Q]], Sequence[A]], *, most: int
    ) -> None:
        self._name = name
        self._answer = answer
        self._most = most
        self._forget()

    async def ask(self, question: Q) -> A:
        """Return the answer, in the caller's own loop."""
        if self._thread is None or self._pid != os.getpid():
            self._start()
        done: asyncio.Future[A] = asyncio.get_running_loop().create_future()
        self._queue.put((question, done))
        return await done

    def close(self) -> None:
        """Answer what was asked and end the thread; the next question starts another."""
        if self._thread is not None and self._pid == os.getpid():
            self._queue.put(None)
            self._thread.join()
        self._forget()

    def _forget(self) -> None:
        # A queue of its own for each thread: a fork may have caught the last one half changed.
        self._queue: SimpleQueue[_Asked[Q, A] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._pid = os.getpid()

    def _start(self) -> None:
        self._forget()
        self._thread = threading.Thread(
            target=self._serve, args=(self._queue,), name=self._name, daemon=True
        )
        self._thread.start()

    def _serve(self, queue: SimpleQueue[_Asked[Q, A] | None]) -> None:
        is_last = False
        while not is_last:
            group, is_last = self._next_group(queue)
            if group:
                answers = self._answer([question for question, _ in group])
                _deliver([(done, each) for (_, done), each in zip(group, answers, strict=True)])

    def _next_group(
        self, queue: SimpleQueue[_Asked[Q, A] | None]
    ) -> tuple[list[_Asked[Q, A]], bool]:
        """Wait for questions; return those that are there, and whether they are the last."""
        group: list[_Asked[Q, A]] = []
        asked = queue.get()
        while asked is not None:
            group.append(asked)
            if len(group) == self._most:
                return group, False
            try:
                asked = queue.get_nowait()
            except Empty:
                return group, False
        return group, True


def _deliver(answers: Sequence[tuple[asyncio.Future[A], A]]) -> None:
    """Hand answers to those who wait, with one call per event loop."""
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[Any], Any]]]
    by_loop = defaultdict(list)
    for done, answer in answers:
        by_loop[done.get_loop()].append((done, answer))
    for loop, its in by_loop.items():
        # A loop that was closed meanwhile waits for nothing any more.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(_settle, its)


def _settle(answers: Sequence[tuple[asyncio.Future[Any], Any]]) -> None:
    for done, answer in answers:
        # Whoever asked may have been called off.
        if not done.done():
            done.set_result(answer)
