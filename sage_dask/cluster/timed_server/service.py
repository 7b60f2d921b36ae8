"""Requests through the engine: what is asked goes in as sequences, and comes out when due."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

from sage_dask.cluster.timed_server import bodies
from sage_dask.cluster.timed_server.asking import Ask, Prompt
from sage_dask.cluster.timed_server.driver import BusyError, EngineDriver, Ticket
from sage_dask.cluster.timed_server.metrics import ServerMetrics
from sage_dask.cluster.timed_server.options import TimedOptions
from sage_dask.cluster.timed_server.refusal import RefusalError
from sage_dask.cluster.timed_server.text import num_tokens
from sage_dask.cluster.timed_server.work import Finished, Work
from sage_dask.cluster.timed_server.writing import Answer, write_answer

_BUSY = (
    "The engine is currently busy and cannot accept new requests. "
    "Please try again later or on a different instance."
)


@dataclass(frozen=True, slots=True)
class _Job:
    """A request under way: answers that are known already, and what they wait for."""

    ask: Ask
    prompts: Sequence[Prompt]
    """Of each answer."""
    answers: Sequence[Answer]
    ticket: Ticket


class TextService:
    """Answers requests on the event loop.

    Args:
        options: How the server behaves.
        driver: Of its engine.
        metrics: Where requests are counted.
    """

    def __init__(self, options: TimedOptions, driver: EngineDriver, metrics: ServerMetrics) -> None:
        self._options = options
        self._driver = driver
        self._metrics = metrics

    async def whole(self, ask: Ask, name: str, number: int) -> dict[str, Any]:
        """Return an answer as a whole, when its last token is out.

        Raises:
            RefusalError: The queue is full.
        """
        job = self._begin(ask, number)
        done = await self._finished(job.ticket)
        spent, metrics = self._spent(job, done), self._request_metrics(job, done)
        return bodies.whole(name, ask, job.answers, spent, metrics)

    def stream(self, ask: Ask, name: str, number: int) -> AsyncIterator[bytes]:
        """Return the events of an answer, each of which comes when its tokens are out.

        Raises:
            RefusalError: The queue is full; better known before the answer has begun.
        """
        return self._events(self._begin(ask, number), name)

    async def score(self, texts: Sequence[str]) -> None:
        """Spend the time that it takes to read texts, all in one sequence.

        Raises:
            RefusalError: The queue is full.
        """
        tokens = sum(map(num_tokens, texts))
        ticket = self._submit([Work(None, min(tokens, self._options.kv_tokens), 0)])
        for done in await self._finished(ticket):
            self._metrics.finished(done, tokens=(tokens, 0), reason="stop")

    def _begin(self, ask: Ask, number: int) -> _Job:
        prompts = [prompt for prompt in ask.prompts for _ in range(ask.n)]
        answers = [
            write_answer(ask, prompt, self._options, index=index, number=number)
            for index, prompt in enumerate(prompts)
        ]
        works = [
            Work(None, prompt.tokens, answer.tokens, prompt.blocks, ask.is_streamed)
            for prompt, answer in zip(prompts, answers, strict=True)
        ]
        return _Job(ask, prompts, answers, self._submit(works))

    def _submit(self, works: Sequence[Work]) -> Ticket:
        try:
            return self._driver.submit(works)
        except BusyError:
            self._metrics.rejections += 1
            raise RefusalError(503, _BUSY, "Service Unavailable") from None

    async def _finished(self, ticket: Ticket) -> list[Finished]:
        try:
            return await ticket.finished()
        except asyncio.CancelledError:
            self._abort(ticket)
            raise

    async def _events(self, job: _Job, name: str) -> AsyncIterator[bytes]:
        writer = bodies.StreamWriter(name, job.ask, int(time.time()))
        sent = [0] * len(job.answers)
        try:
            async for index, tokens in job.ticket.progress():
                if job.ask.is_chat and not sent[index]:
                    yield writer.opening(index)
                if tokens > sent[index]:
                    yield writer.piece(index, job.answers[index], sent[index], tokens)
                    sent[index] = tokens
            done = await job.ticket.finished()
            spent = self._spent(job, done)
        except (asyncio.CancelledError, GeneratorExit):
            self._abort(job.ticket)
            raise
        if job.ask.with_usage:
            yield writer.closing(spent, self._request_metrics(job, done))
        yield bodies.END_OF_STREAM

    def _abort(self, ticket: Ticket) -> None:
        """Give up on a request whose client has gone, as vLLM does."""
        self._driver.cancel(ticket)
        self._metrics.endings["abort"] += 1

    def _spent(self, job: _Job, done: Sequence[Finished]) -> dict[str, Any]:
        """Count the sequences of a request, and return its usage."""
        for prompt, answer, each in zip(job.prompts, job.answers, done, strict=True):
            tokens = (prompt.tokens, answer.tokens)
            self._metrics.finished(each, tokens=tokens, reason=answer.finish_reason)
        return bodies.usage(
            sum(prompt.tokens for prompt in job.ask.prompts),
            sum(answer.tokens for answer in job.answers),
            # A prompt is sent once, however many answers it gets.
            sum(each.cached_tokens for each in done[:: job.ask.n]),
        )

    def _request_metrics(self, job: _Job, done: Sequence[Finished]) -> dict[str, Any] | None:
        """Return where the time went; as in vLLM, of several answers nothing is told."""
        if not self._options.request_metrics or len(done) != 1:
            return None
        return bodies.request_metrics(done[0], job.answers[0].tokens)
