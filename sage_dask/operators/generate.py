"""Answering each record: by a model server, or from its own passages without one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from sage_dask import aio
from sage_dask.completion import Completion, TextModel
from sage_dask.errors import PlanError, StopRun, listed
from sage_dask.operators.generation.chat import OpenAIChat
from sage_dask.operators.generation.extractive import ExtractiveAnswerer
from sage_dask.operators.generation.retry import Retry
from sage_dask.operators.shared import Declared, ready, text_fault
from sage_dask.record import Outcome, Record
from sage_dask.stage import Operator

# What the request is made of has a parameter of its own; streams are not read yet.
_NOT_EXTRA = frozenset(
    {"model", "messages", "prompt", "max_tokens", "temperature", "stream", "n", "best_of"}
)


@dataclass
class Generate(Declared, Operator):
    """Write an answer for each record, and beside it how it came about.

    With an ``endpoint``, prompts go to any OpenAI-compatible server, a whole
    batch at once.  Without one, no model writes: the answer is quoted from the
    record's passages, and its ``model`` says so.
    """

    endpoint: str | None = None
    """Base URL of the server, such as ``http://gpu-0:8000/v1``."""
    model: str | None = None
    """The model's name as the server knows it."""
    max_tokens: int | None = 256
    """Longest answer in tokens; None leaves it to the server."""
    temperature: float | None = 0.7
    """None leaves it to the server."""
    prompt: str = "prompt"
    """Field that holds the prompt: a text, or a list of chat messages."""
    into: str = "answer"
    """Field that takes the answer; ``<into>_meta`` takes model, usage, finish and latency."""
    api: str = "chat"
    """``"chat"``, or ``"completions"`` for servers without a chat template."""
    api_key_env: str | None = None
    """*Name* of the environment variable that holds the key; read on the worker."""
    timeout_s: float = 60.0
    """Deadline of one try."""
    concurrency: int = 64
    """Most requests under way per worker process."""
    attempts: int = 4
    """Tries per prompt while the server is busy or silent."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Further fields of the request, such as ``{"top_p": 0.9, "seed": 1}``."""
    question: str = "question"
    """Field that holds the question; used without an endpoint."""
    passages: str = "passages"
    """Field that holds the passages to quote from; used without an endpoint."""
    embedder: str | None = "minilm"
    """Model that compares sentences; None compares words alone.  Used without an endpoint."""
    _client: OpenAIChat | None = field(init=False, repr=False, compare=False, default=None)
    _answerer: ExtractiveAnswerer | None = field(
        init=False, repr=False, compare=False, default=None
    )

    @property
    def imports(self) -> Sequence[str]:
        """The embedding library, where sentences are compared by it."""
        return ("sentence_transformers",) if self.endpoint is None and self.embedder else ()

    @property
    def reads(self) -> Sequence[str]:
        """The prompt, or question and passages where answers are quoted."""
        return (self.question, self.passages) if self.endpoint is None else (self.prompt,)

    @property
    def writes(self) -> Sequence[str]:
        """The answer, and how it came about."""
        return (self.into, f"{self.into}_meta")

    @property
    def is_async(self) -> bool:
        """Waiting for a server is; quoting computes."""
        return self.endpoint is not None

    def check(self) -> None:
        """Refuse what no server could answer."""
        if (self.endpoint is None) != (self.model is None):
            raise PlanError(
                f"Generate: endpoint={self.endpoint!r} and model={self.model!r} go together; "
                "give both, or neither to quote answers from the passages"
            )
        if self.endpoint is not None:
            _check_endpoint(self.endpoint)
        if self.api not in ("chat", "completions"):
            raise PlanError(f"Generate: api={self.api!r} is neither 'chat' nor 'completions'")
        for name in ("timeout_s", "concurrency", "attempts"):
            if getattr(self, name) <= 0:
                raise PlanError(f"Generate: {name}={getattr(self, name)} must be more than 0")
        if clash := _NOT_EXTRA & set(self.extra):
            raise PlanError(
                f"Generate: extra can not set {listed(clash)}; use the parameter of that name "
                "where there is one (answers are read whole, one per prompt)"
            )

    def setup(self) -> None:
        """Make the client, or load what compares sentences."""
        if self.endpoint is None or self.model is None:
            self._answerer = ExtractiveAnswerer.load(self.embedder)
            return
        self._client = OpenAIChat(
            endpoint=self.endpoint,
            model=self.model,
            max_tokens=self.max_tokens,
            temperature=self.temperature,
            api=self.api,
            api_key_env=self.api_key_env,
            timeout_s=self.timeout_s,
            concurrency=self.concurrency,
            retry=Retry(self.attempts),
            extra=self.extra,
        )

    def process_batch(
        self, records: Sequence[Record]
    ) -> Sequence[Outcome] | Awaitable[Sequence[Outcome]]:
        """Answer each record; waiting for a server is a coroutine, quoting is not.

        Raises:
            StopRun: The server would refuse every other prompt as well.
        """
        if self.is_async:
            return self._ask_all(ready(self._client, self), records)
        answerer = ready(self._answerer, self)
        return [self._quoted(answerer, record) for record in records]

    def teardown(self) -> None:
        """Close the connections."""
        if self._client is not None:
            aio.run(self._client.close())
        self._client = self._answerer = None

    async def _ask_all(self, model: TextModel, records: Sequence[Record]) -> Sequence[Outcome]:
        """Send all prompts at once; the first ``StopRun`` calls the others off."""
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._asked(model, record)) for record in records]
            return [task.result() for task in tasks]
        except ExceptionGroup as errors:
            stop = errors.exceptions[0]
        raise stop

    async def _asked(self, model: TextModel, record: Record) -> Outcome:
        try:
            return self._answered(record, await model.complete(record[self.prompt]))
        except StopRun:
            raise
        except Exception as error:
            return error

    def _quoted(self, answerer: ExtractiveAnswerer, record: Record) -> Outcome:
        if fault := text_fault(record, self.question, self):
            return fault
        try:
            completion = answerer.answer(record[self.question], record[self.passages])
        except Exception as error:
            return error
        return self._answered(record, completion)

    def _answered(self, record: Record, completion: Completion) -> Record:
        return {**record, self.into: completion.text, f"{self.into}_meta": completion.meta()}


def _check_endpoint(endpoint: str) -> None:
    """Raise ``PlanError`` for what is no base URL, or is one with a password in it."""
    parts = urlsplit(endpoint)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise PlanError(
            f"Generate: endpoint={endpoint!r} is no URL of a server; "
            "write it like 'http://gpu-0:8000/v1'"
        )
    if parts.username or parts.password or parts.query:
        raise PlanError(
            f"Generate: the endpoint at {parts.hostname!r} carries credentials or a query, which "
            "would show in logs; give the name of a variable with the key as api_key_env=..."
        )
