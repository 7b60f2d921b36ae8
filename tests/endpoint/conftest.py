"""A server that sends the very bytes it is told, and breaks off where it is told."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import pytest

from sage_dask import aio


@dataclass
class Seen:
    """One request as it arrived."""

    path: str
    headers: dict[str, str]
    body: Any


@dataclass
class ScriptedServer:
    """Answers each request with its own script: bytes to send, ``"hang"`` or ``"reset"``.

    At the end of a script the connection is closed.  Without a script left it
    answers with a whole chat completion and keeps the connection.
    """

    scripts: deque[list[bytes | str]]
    seen: list[Seen] = field(default_factory=list)
    num_connections: int = 0
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    _closing: asyncio.Event = field(default_factory=asyncio.Event)
    _server: Any = None

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1"

    def __enter__(self) -> ScriptedServer:
        async def start() -> None:
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)

        aio.run(start())
        return self

    def __exit__(self, *error: object) -> None:
        async def stop() -> None:
            self._closing.set()
            self._server.close()

        aio.run(stop())

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.num_connections += 1
        try:
            while await self._exchange(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # The client has gone.
        finally:
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (x.partition(": ") for x in head[1:])}
        body = json.loads(await reader.readexactly(int(headers["content-length"])))
        self.seen.append(Seen(head[0].split()[1], headers, body))
        self.arrived.set()
        if not self.scripts:
            writer.write(whole({"choices": [{"message": {"content": "ok"}}]}))
            return True
        for step in self.scripts.popleft():
            if step == "hang":
                await self._closing.wait()
            elif step == "reset":
                writer.transport.abort()
            elif isinstance(step, bytes):
                writer.write(step)
                await writer.drain()
        return False


def whole(body: Any, status: str = "200 OK", **headers: str) -> bytes:
    """Return a complete answer with a JSON body, or with a text."""
    content = (body if isinstance(body, str) else json.dumps(body)).encode()
    lines = [f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items()]
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(content)}\r\n{''.join(lines)}\r\n"
    return head.encode() + content


def stream_head() -> bytes:
    """Return the beginning of a streamed answer, which ends with its connection or a last chunk."""
    return (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n"
    )


def event(data: Any) -> bytes:
    """Return one event of a streamed answer, as a chunk of its own."""
    text = f"data: {data if isinstance(data, str) else json.dumps(data)}\n\n".encode()
    return f"{len(text):x}\r\n".encode() + text + b"\r\n"


@dataclass(frozen=True)
class Wire:
    """What a script is written with."""

    stack: ExitStack
    last_chunk: bytes = b"0\r\n\r\n"
    whole = staticmethod(whole)
    stream_head = staticmethod(stream_head)
    event = staticmethod(event)

    def serve(self, *scripts: list[bytes | str]) -> ScriptedServer:
        """Start a server with a script for each of its first requests."""
        return self.stack.enter_context(ScriptedServer(deque(scripts)))


@pytest.fixture
def wire() -> Iterator[Wire]:
    """Lend the means to script servers, which are closed afterwards."""
    with ExitStack() as stack:
        yield Wire(stack)
