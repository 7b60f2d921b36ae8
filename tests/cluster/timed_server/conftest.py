"""Asking a server over plain sockets, one request at a time, and a watch on what is left."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import pytest

# A bound, not a wait: what is asked of a healthy server comes at once.
_TIMEOUT_S = 30


@dataclass(frozen=True)
class Answered:
    """What came back."""

    status: int
    headers: dict[str, str]
    content: bytes

    @property
    def body(self) -> Any:
        return json.loads(self.content)

    @property
    def events(self) -> list[Any]:
        """The events of a stream, the mark of its end excluded."""
        lines = [line.removeprefix(b"data: ") for line in self.content.split(b"\n\n") if line]
        return [json.loads(line) for line in lines if line != b"[DONE]"]


def _ask(url, path, body=None, *, timeout_s=_TIMEOUT_S, **headers):
    """Send a request on a connection of its own and read what comes."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=timeout_s)
    content = body if isinstance(body, bytes | None) else json.dumps(body).encode()
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        connection.request("GET" if body is None else "POST", path, content, names)
        response = connection.getresponse()
        found = {name.lower(): value for name, value in response.getheaders()}
        return Answered(response.status, found, response.read())
    finally:
        connection.close()


@pytest.fixture
def ask() -> Callable[..., Answered]:
    """Lend the function that sends one request."""
    return _ask


@pytest.fixture
def chat() -> Callable[..., Answered]:
    """Lend the function that asks for a chat completion."""

    def send(server, text="hi", *, timeout_s=_TIMEOUT_S, headers=None, **fields):
        body = {"messages": [{"role": "user", "content": text}], "max_tokens": 4, **fields}
        path = "/v1/chat/completions"
        return _ask(server.url, path, body, timeout_s=timeout_s, **(headers or {}))

    return send


@pytest.fixture
def eventually() -> Callable[[Callable[[], bool]], None]:
    """Lend the function that waits for a condition, and fails if it never comes."""

    def wait(condition):
        deadline_s = time.monotonic() + _TIMEOUT_S
        while not condition():
            assert time.monotonic() < deadline_s, "the condition never held"
            time.sleep(0.01)

    return wait
