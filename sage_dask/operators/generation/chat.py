"""A client for any server that speaks the OpenAI protocol: vLLM, SGLang, llama.cpp, a cloud.

Each prompt is one request with its own deadline and a few tries.  What comes
back is an answer or an exception; no error text ever passes for an answer.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from sage_dask.completion import Completion, CompletionError, PromptLike
from sage_dask.errors import SetupError, StopRun
from sage_dask.extras import require
from sage_dask.operators.generation.retry import Retry, parse_retry_after

# Answers that no other record would escape, and what to do about them.
_MENDS = {
    401: "the key was refused: give the name of the variable that holds it as api_key_env=...",
    403: "the key may not use this model: ask for access, or choose another model=...",
    404: "there is no such model or path: endpoint=... usually ends in '/v1', and "
    "GET <endpoint>/models lists what model=... may be",
}
# Busy, restarting or overtaken by a deadline; vLLM answers 500 while it shuts down.
_RETRIABLE = frozenset({408, 429, 500, 502, 503, 504})
# Enough of a server's complaint to act on, too little to flood a log.
_MOST_ERROR_CHARS = 300


class _RetriableError(Exception):
    """A failed try that another one may mend."""

    def __init__(self, reason: str, retry_after_s: float | None = None) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s


@dataclass(eq=False)
class OpenAIChat:
    """Complete prompts over HTTP, many at a time; one instance per worker process.

    The key lives in this object alone, from ``os.environ`` to the header: it is
    in no repr, no pickle and no exception, even if the server repeats it.
    """

    endpoint: str
    model: str
    max_tokens: int | None = 256
    temperature: float | None = 0.7
    api: str = "chat"
    """``"chat"`` for ``/chat/completions``, ``"completions"`` for plain text."""
    api_key_env: str | None = None
    timeout_s: float = 60.0
    """Deadline of one try."""
    concurrency: int = 64
    """Most requests under way; a waiting retry keeps its place, to spare a busy server."""
    retry: Retry = field(default_factory=Retry)
    extra: Mapping[str, Any] = field(default_factory=dict)
    clock: Callable[[], float] = field(default=time.perf_counter, repr=False)
    sleep: Callable[[float], Awaitable[None]] = field(default=asyncio.sleep, repr=False)
    jitter: Callable[[], float] = field(default=random.random, repr=False)
    _key: str | None = field(init=False, repr=False, default=None)
    _session: Any = field(init=False, repr=False, default=None)
    _slots: asyncio.Semaphore = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._key = _resolve_key(self.api_key_env)
        self._aiohttp = require("aiohttp", extra="http", needed_by="Generate(endpoint=...)")
        self._slots = asyncio.Semaphore(self.concurrency)

    @property
    def url(self) -> str:
        """Where requests go."""
        path = "chat/completions" if self.api == "chat" else "completions"
        return f"{self.endpoint.rstrip('/')}/{path}"

    async def complete(self, prompt: PromptLike) -> Completion:
        """Ask the server for one answer, again if it is busy or does not answer.

        Raises:
            CompletionError: The server refused this prompt or stayed away.
            StopRun: The server refuses the key or knows no such model.
        """
        body = self._body(prompt)
        failed = 0
        async with self._slots:
            while True:
                try:
                    return await self._ask(body)
                except _RetriableError as error:
                    failed += 1
                    delay_s = self.retry.delay_s(failed, error.retry_after_s, self.jitter())
                    if delay_s is None:
                        raise CompletionError(
                            f"model server {self.endpoint} gave no answer ({failed} tries, "
                            f"last: {error}); see that it runs and is not overloaded, or raise "
                            "timeout_s or attempts",
                            attempts=failed,
                        ) from None
                await self.sleep(delay_s)

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _body(self, prompt: PromptLike) -> dict[str, Any]:
        """Return the request for one prompt."""
        body: dict[str, Any] = {"model": self.model, **self.extra}
        if self.max_tokens is not None:
            body["max_tokens"] = self.max_tokens
        if self.temperature is not None:
            body["temperature"] = self.temperature
        if self.api == "completions":
            body["prompt"] = prompt
        elif isinstance(prompt, str):
            body["messages"] = [{"role": "user", "content": prompt}]
        else:
            body["messages"] = list(prompt)
        return body

    async def _ask(self, body: Mapping[str, Any]) -> Completion:
        """Try once.

        Raises:
            _RetriableError: The server is busy, broken or silent.
        """
        started = self.clock()
        try:
            status, headers, content = await self._post(body)
        except TimeoutError:
            raise _RetriableError(f"no answer within {self.timeout_s:g} s") from None
        except (self._aiohttp.ClientConnectionError, self._aiohttp.ClientPayloadError) as error:
            raise _RetriableError(self._redacted(str(error) or type(error).__name__)) from None
        if status != 200:
            raise self._refusal(status, headers, content)
        answer = self._parsed(content)
        return self._completion(answer, latency_s=self.clock() - started)

    async def _post(self, body: Mapping[str, Any]) -> tuple[int, Mapping[str, str], bytes]:
        """Send one request and read its answer whole."""
        if self._session is None:
            # No limit here: the slots above hold requests back before their deadline runs.
            self._session = self._aiohttp.ClientSession(
                connector=self._aiohttp.TCPConnector(limit=0),
                timeout=self._aiohttp.ClientTimeout(total=self.timeout_s),
                headers={"Authorization": f"Bearer {self._key}"} if self._key else {},
            )
        # A redirect would carry the key to a place the user did not name.
        async with self._session.post(self.url, json=body, allow_redirects=False) as response:
            return response.status, response.headers, await response.read()

    def _refusal(self, status: int, headers: Mapping[str, str], content: bytes) -> Exception:
        """Return the exception for an answer that is not 200."""
        text = self._redacted(content.decode("utf-8", "replace"))[:_MOST_ERROR_CHARS]
        said = f"{status} {text}".strip()
        if status in _RETRIABLE:
            return _RetriableError(said, parse_retry_after(headers.get("Retry-After")))
        if status in _MENDS:
            return StopRun(
                f"model server {self.url}, model {self.model!r}: {said}; {_MENDS[status]}"
            )
        return CompletionError(
            f"model server {self.url} refused the prompt: {said}; "
            "shorten it or change what the message names"
        )

    def _parsed(self, content: bytes) -> Any:
        with suppress(ValueError):
            return json.loads(content)
        # Not inside an except block: the parser's error quotes the whole answer, and as the
        # context of ours it would be pickled along with it.
        shown = self._redacted(content[:_MOST_ERROR_CHARS].decode("utf-8", "replace"))
        raise _RetriableError(f"the answer is no JSON: {shown!r}")

    def _completion(self, answer: Any, latency_s: float) -> Completion:
        """Read an answer; one without text is an error, whatever its status said."""
        try:
            choice = answer["choices"][0]
            text = choice["message"]["content"] if self.api == "chat" else choice["text"]
            if not isinstance(text, str):
                raise TypeError  # A refusal or a tool call leaves the text null.
        except (LookupError, TypeError):
            shown = self._redacted(json.dumps(answer))[:_MOST_ERROR_CHARS]
            raise CompletionError(
                f"model server {self.url} answered without text: {shown}; "
                "see that api=... and extra=... ask for plain text"
            ) from None
        return Completion(
            text=text,
            model=str(answer.get("model") or self.model),
            finish_reason=choice.get("finish_reason"),
            usage=answer.get("usage") or {},
            latency_s=latency_s,
        )

    def _redacted(self, text: str) -> str:
        return text.replace(self._key, "[key]") if self._key else text

    def __getstate__(self) -> Any:
        raise TypeError(
            "an OpenAIChat holds a key and open connections and does not travel; "
            "send the operator that makes it in setup()"
        )


def _resolve_key(variable: str | None) -> str | None:
    """Return the key that an environment variable of this process holds.

    Raises:
        SetupError: The variable is not set or empty.
    """
    if variable is None:
        return None
    key = os.environ.get(variable, "").strip()
    if not key:
        raise SetupError(
            f"api_key_env={variable!r}: no such variable in the environment of this worker; "
            "export it where workers start (its value is read there and travels nowhere)"
        )
    return key
