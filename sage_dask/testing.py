"""Fakes for tests of pipelines, ours and yours: a model, its server, and a clock.

They keep the contracts of what they stand for and are told by hand what to do,
so that a test needs no model, no network beyond loopback, and no waiting.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sage_dask import aio
from sage_dask.completion import Completion, PromptLike, TextModel
from sage_dask.extras import require


class FakeClock:
    """A clock that stands still until it is advanced: ``clock()`` is the time in seconds."""

    def __init__(self, now_s: float = 0.0) -> None:
        self.now_s = now_s

    def __call__(self) -> float:
        """Return the time in seconds."""
        return self.now_s

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.now_s += seconds

    async def sleep(self, seconds: float) -> None:
        """Stand in for ``asyncio.sleep``: time passes at once, and others get their turn."""
        self.advance(seconds)
        await asyncio.sleep(0)


class EchoModel:
    """A text model that answers with the prompt, or with its last message."""

    name = "echo"

    async def complete(self, prompt: PromptLike) -> Completion:
        """Return the prompt."""
        text = prompt if isinstance(prompt, str) else str(prompt[-1]["content"])
        usage = {"prompt_tokens": len(text.split()), "completion_tokens": len(text.split())}
        return Completion(text, model=self.name, finish_reason="stop", usage=usage)


@dataclass(frozen=True, slots=True)
class Fault:
    """What a fake server does instead of answering one request."""

    status: int = 200
    body: str = "planted fault"
    headers: Mapping[str, str] = field(default_factory=dict)
    reset: bool = False
    """Drop the connection without an answer."""
    hang: bool = False
    """Keep the request until the client gives up or the server closes."""


class FakeChatServer:
    """An OpenAI-compatible server on loopback, which fails when and how it is told.

    Use it in ``with``; it runs on the process's loop thread.  ``requests`` holds
    the bodies it was sent, and ``authorizations`` the keys that came with them.
    """

    def __init__(self, faults: Iterable[Fault] = (), *, model: TextModel | None = None) -> None:
        self.requests: list[dict[str, Any]] = []
        self.authorizations: list[str | None] = []
        self.faults = deque(faults)
        """One per request, in order; then every request is answered."""
        self.most_in_flight = 0
        self.endpoint = ""
        self._model = model or EchoModel()
        self._in_flight = 0
        self._closing = asyncio.Event()
        self._web = require("aiohttp.web", extra="http", needed_by="FakeChatServer")
        self._runner: Any = None

    def __enter__(self) -> FakeChatServer:
        aio.run(self._start())
        return self

    def __exit__(self, *error: object) -> None:
        aio.run(self._stop())

    async def _start(self) -> None:
        app = self._web.Application()
        app.router.add_post("/v1/chat/completions", self._handler(_chat_prompt, _chat_choice))
        app.router.add_post("/v1/completions", self._handler(_plain_prompt, _plain_choice))
        self._runner = self._web.AppRunner(app, shutdown_timeout=0)
        await self._runner.setup()
        site = self._web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.endpoint = f"http://127.0.0.1:{self._runner.addresses[0][1]}/v1"

    async def _stop(self) -> None:
        self._closing.set()  # Cleaning up waits for every handler, so hanging ones must end.
        await self._runner.cleanup()

    def _handler(
        self,
        prompt_of: Callable[[Mapping[str, Any]], PromptLike],
        choice_of: Callable[[Completion], dict[str, Any]],
    ) -> Callable[[Any], Awaitable[Any]]:
        """Return the handler of one path: they differ in how prompt and answer are wrapped."""

        async def handle(request: Any) -> Any:
            self._in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self._in_flight)
            try:
                body = await request.json()
                self.requests.append(body)
                self.authorizations.append(request.headers.get("Authorization"))
                if self.faults:
                    return await self._fail(request, self.faults.popleft())
                answer = await self._model.complete(prompt_of(body))
            finally:
                self._in_flight -= 1
            return self._web.json_response(
                {
                    "model": answer.model,
                    "choices": [{**choice_of(answer), "finish_reason": answer.finish_reason}],
                    "usage": dict(answer.usage),
                }
            )

        return handle

    async def _fail(self, request: Any, fault: Fault) -> Any:
        if fault.hang:
            await self._closing.wait()
        if fault.reset:
            request.transport.abort()
        return self._web.Response(status=fault.status, text=fault.body, headers=fault.headers)


def _chat_prompt(body: Mapping[str, Any]) -> PromptLike:
    messages: PromptLike = body["messages"]
    return messages


def _chat_choice(answer: Completion) -> dict[str, Any]:
    return {"message": {"role": "assistant", "content": answer.text}}


def _plain_prompt(body: Mapping[str, Any]) -> PromptLike:
    return str(body["prompt"])


def _plain_choice(answer: Completion) -> dict[str, Any]:
    return {"text": answer.text}
