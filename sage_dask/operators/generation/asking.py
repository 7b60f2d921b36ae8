"""Getting one record's answer: from the cache, or by asking until it is the JSON that is wanted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from sage_dask.completion import CompletionError
from sage_dask.endpoint.cache import ResponseCache, response_key, should_cache
from sage_dask.endpoint.caller import Answer
from sage_dask.endpoint.context import current
from sage_dask.endpoint.usage import Usage
from sage_dask.errors import counted
from sage_dask.operators.connection import Connection
from sage_dask.operators.generation.answer import Reply
from sage_dask.operators.generation.request import (
    RequestForm,
    most_new_tokens,
    prefix_of,
    prompt_tokens,
)
from sage_dask.operators.generation.schema import AnswerSchema
from sage_dask.record import Record

# What does not change the answer: it may differ between the run that paid and the one that reads.
_NOT_IN_KEY = frozenset({"priority"})
# Nothing was sent; the usage beside it is what the answer took when it was paid for.
_FROM_CACHE = {"cached": True, "latency_s": 0.0, "attempts": 0}


@dataclass(frozen=True, slots=True)
class Answered:
    """One record's answer, and how it came about."""

    reply: Reply
    values: Sequence[Any]
    """One per choice: its text, or what its JSON stands for."""
    told: Mapping[str, Any]
    """What is known on our side: latency, attempts, cost, whether it came from the cache."""

    def into(self, record: Record, field: str, *, logprobs: bool) -> Record:
        """Return a record with the answer in ``field`` and what goes beside it."""
        given = {
            field: _one_or_all(self.values),
            f"{field}_meta": {**self.reply.meta(), **self.told},
        }
        if logprobs:
            each = [choice.logprobs for choice in self.reply.choices]
            given[f"{field}_logprobs"] = _one_or_all(each)
        return {**record, **given}


@dataclass(frozen=True, slots=True)
class Asker:
    """Asks for the answers of one stage; one instance per worker process."""

    connection: Connection
    form: RequestForm
    schema: AnswerSchema | None = None
    reasks: int = 0
    """Further requests for an answer that is not the JSON that was asked for."""
    stream: bool = False
    cache: ResponseCache | None = None
    cache_asked: bool | None = None
    """None caches what would come out the same again: temperature 0, or a fixed seed."""
    has_replicas: bool = False

    async def ask(self, record: Record) -> Answered:
        """Return the answer for a record.

        Raises:
            ValueError: The record holds nothing that could be asked.
            CompletionError: The server refused it, or gave no answer that fits.
            StopRun: No other record would get an answer, either.
        """
        body = self.form.body(record)
        key = self._key(body)
        if self.cache is None or key is None:
            return (await self._fitting(body))[0]
        kept = await self.cache.get(key)
        # An answer that can not be read, from an older version or a damaged disk, is asked again.
        with suppress(CompletionError, ValueError):
            if kept is not None:
                reply = Reply.read(kept, body)
                found = Answered(reply, self._values(reply), _FROM_CACHE)
                current().usage.cache_hits += 1
                return found
        answered, answer = await self._fitting(body)
        await self.cache.put(key, answer)
        return answered

    def _key(self, body: Mapping[str, Any]) -> bytes | None:
        """Return what the answer is cached under; None if it is not."""
        if not should_cache(body.get("temperature"), body.get("seed"), self.cache_asked):
            return None
        shared = {name: value for name, value in body.items() if name not in _NOT_IN_KEY}
        return response_key(self.form.api, shared)

    async def _fitting(self, body: Mapping[str, Any]) -> tuple[Answered, Any]:
        """Ask until the answer fits; return it, and the body that it came in."""
        bill = _Bill()
        for _ in range(1 + self.reasks):
            answer = await self._asked(body, bill)
            reply = Reply.read(answer.body, body)
            try:
                told = {"endpoint": answer.endpoint, **bill.told()}
                return Answered(reply, self._values(reply), told), answer.body
            except ValueError as error:
                fault = _with_cause(str(error), reply)
            body = _asked_again(body, reply, fault)
        raise CompletionError(
            f"the answer is not the JSON that was asked for, after {counted(bill.asked, 'request')}"
            f": {fault}; raise max_tokens or reasks, or have the server enforce the schema",
            attempts=bill.attempts,
        )

    async def _asked(self, body: Mapping[str, Any], bill: _Bill) -> Answer:
        answer, usage = await self.connection.ask(
            self.form.path,
            body,
            prefix=prefix_of(body) if self.has_replicas else None,
            tokens=prompt_tokens(body) + (most_new_tokens(body) or 0),
            stream=self.stream,
        )
        bill.add(answer, usage)
        return answer

    def _values(self, reply: Reply) -> list[Any]:
        """Return what the answers say, or raise ``ValueError`` if that is not what was wanted."""
        texts = [choice.text for choice in reply.choices]
        return texts if self.schema is None else [self.schema.parse(text) for text in texts]


@dataclass(slots=True)
class _Bill:
    """What one record took so far."""

    asked: int = 0
    attempts: int = 0
    latency_s: float = 0.0
    usage: Usage = field(default_factory=Usage)

    def add(self, answer: Answer, usage: Usage) -> None:
        self.asked += 1
        self.attempts += answer.attempts
        self.latency_s += answer.latency_s
        self.usage.add(usage)

    def told(self) -> dict[str, Any]:
        """Return it as it stands in a record; an answer's own usage will do if it is the only."""
        told: dict[str, Any] = {"latency_s": self.latency_s, "attempts": self.attempts}
        if self.usage.cost:
            told["cost"] = self.usage.cost
        return told if self.asked == 1 else {**told, "usage": self.usage.as_dict()}


def _asked_again(body: Mapping[str, Any], reply: Reply, fault: str) -> dict[str, Any]:
    """Return the request that goes on from an answer with what is wrong with it."""
    complaint = (
        f"That is not the JSON that was asked for: {fault}. "
        "Answer again, with the corrected JSON and nothing else."
    )
    turns = [
        {"role": "assistant", "content": reply.choices[0].text},
        {"role": "user", "content": complaint},
    ]
    return {**body, "messages": [*body["messages"], *turns]}


def _with_cause(fault: str, reply: Reply) -> str:
    was_cut = any(choice.finish_reason == "length" for choice in reply.choices)
    return f"{fault} (it was cut off at its limit of tokens)" if was_cut else fault


def _one_or_all(each: Sequence[Any]) -> Any:
    """Return the only item by itself, and several as a list."""
    return each[0] if len(each) == 1 else list(each)
