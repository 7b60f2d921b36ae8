"""The way from an operator to its servers, on which tokens are counted."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from sage_dask.endpoint.caller import Answer, Caller
from sage_dask.endpoint.context import current
from sage_dask.endpoint.prices import Prices
from sage_dask.endpoint.usage import Usage
from sage_dask.errors import StopRun

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Connection:
    """Asks servers, and counts what the answers took for whom they were asked."""

    caller: Caller
    prices: Prices

    async def ask(self, path: str, body: Mapping[str, Any], **options: Any) -> tuple[Answer, Usage]:
        """Send one request, and return the answer and what its tokens cost.

        Args:
            path: Below the endpoint, such as ``"chat/completions"``.
            body: What is asked.
            options: As for ``Caller.call``.

        Raises:
            CompletionError: There is no answer to this request.
            StopRun: There is none to any other, either.
        """
        answer = await self.caller.call(path, body, **options)
        usage = token_usage(answer.body)
        usage.cost = self.prices.cost(usage)
        current().usage.add(usage)
        return answer, usage


def token_usage(body: Any) -> Usage:
    """Return the tokens that the body of an answer says it took; none where it does not say."""
    usage = _mapping(_mapping(body).get("usage"))
    details = _mapping(usage.get("prompt_tokens_details"))
    # Embeddings and rerankers of some servers tell but a total, all of which they read.
    read = usage.get("prompt_tokens", usage.get("total_tokens"))
    return Usage(
        prompt_tokens=_count(read),
        cached_tokens=_count(details.get("cached_tokens")),
        completion_tokens=_count(usage.get("completion_tokens")),
    )


async def at_once(work: Callable[[T], Awaitable[R]], items: Sequence[T]) -> list[R | Exception]:
    """Work on all items at the same time; what one raises stands in its place.

    Raises:
        StopRun: One was told that no other can succeed; the others were called off.
    """
    # Tasks see copies of this one's context: for whom they work must be settled before.
    current()
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(_caught(work, item)) for item in items]
        return [task.result() for task in tasks]
    except ExceptionGroup as errors:
        stop = errors.exceptions[0]
    # Raised out here, it does not take along what happened to the others.
    raise stop


async def _caught(work: Callable[[T], Awaitable[R]], item: T) -> R | Exception:
    try:
        return await work(item)
    except StopRun:
        raise
    except Exception as error:
        return error


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _count(value: Any) -> int:
    return value if type(value) is int and value > 0 else 0
