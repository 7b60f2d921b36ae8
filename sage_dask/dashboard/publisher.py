"""Tells the scheduler how far a job is: the driver's end of what people watch.

The driver says at every turn that there may be news; twice a second they are sent,
on the client's own loop.  Whatever goes wrong with that costs the watchers their
news, and the run nothing.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from distributed import Client
from distributed.protocol import pickle

from sage_dask.dashboard.wire import NEWS
from sage_dask.standing import Progress

logger = logging.getLogger("sage_dask")

EVERY_S = 0.5

# A driver that is at something long, such as writing the whole output, is heard of as often: well
# before those who watch take it for stuck.
ALIVE_S = 5.0

# What a run may wait at its end until the scheduler has heard how it ended.
LAST_S = 1.0


class Publisher:
    """Sends the progress of one job.

    Args:
        client: Of the cluster.
        job: Name of the job, ``"pipeline/id"``.
        progress: Returns how far it is; called in the driver's thread.
        clock: Seconds; only differences count.
    """

    def __init__(
        self,
        client: Client,
        job: str,
        progress: Callable[[], Progress],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._job = job
        self._progress = progress
        self._clock = clock
        self._due_s: float | None = None
        """When the next news may go; None before the first."""
        self._is_sending = False
        self._is_over = False
        self._alive: Any = None
        """The timer by which the latest news are said again."""
        self._in_turn = asyncio.Lock()
        self.num_errors = 0
        """News that could not be told."""

    def tick(self) -> None:
        """Send the news, unless that was done just now or is being done; never waits."""
        now_s = self._clock()
        is_early = self._due_s is not None and now_s < self._due_s
        if is_early or self._is_sending or self._client.status != "running":
            return
        self._due_s = now_s + EVERY_S
        try:
            news = self._news()
        except Exception as error:
            self._failed(error)
            return
        self._is_sending = True
        self._client.loop.add_callback(self._send_next, news)

    def end(self) -> None:
        """Send how the job ended, and wait for it a moment; nothing where none was told."""
        self._is_over = True
        if self._due_s is None or self._client.status != "running":
            return
        try:
            self._client.sync(self._send, self._news(), callback_timeout=LAST_S)
        except Exception as error:
            self._failed(error)

    def _news(self) -> bytes:
        news: bytes = pickle.dumps(self._progress())
        return news

    async def _send_next(self, news: bytes) -> None:
        try:
            await self._send(news)
        except Exception as error:
            self._failed(error)
        finally:
            self._is_sending = False
            if self._alive is not None:
                self._client.loop.remove_timeout(self._alive)
            self._alive = self._client.loop.call_later(ALIVE_S, self._say_again, news)

    def _say_again(self, news: bytes) -> None:
        """Say the latest news again, on the loop: nothing came since, and the job is not over."""
        self._alive = None
        if not self._is_over and not self._is_sending and self._client.status == "running":
            self._is_sending = True
            self._client.loop.add_callback(self._send_next, news)

    async def _send(self, news: bytes) -> None:
        # In turn: on two connections, what is sent last could be heard first.
        async with self._in_turn:
            tell = getattr(self._client.scheduler, NEWS)
            await tell(job=self._job, client=self._client.id, news=news)

    def _failed(self, error: Exception) -> None:
        self.num_errors += 1
        # A scheduler that is lost or slow is told by the run itself, if it matters there.
        if self.num_errors == 1 and not isinstance(error, OSError):
            logger.warning(
                "job %r: nobody can see its progress; this is a defect of sage_dask, please report",
                self._job,
                exc_info=error,
            )


@contextmanager
def publishing(
    client: Client, job: str, progress: Callable[[], Progress]
) -> Iterator[Callable[[], None]]:
    """Lend what sends the news of a job, and send how it ended."""
    publisher = Publisher(client, job, progress)
    try:
        yield publisher.tick
    finally:
        publisher.end()
