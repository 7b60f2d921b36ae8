"""Sending an answer, or only a part of it: the faults that strike after it is written."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

from sage_dask.cluster.timed_server.bodies import END_OF_STREAM
from sage_dask.cluster.timed_server.faults import Fault
from sage_dask.extras import require

DURING = frozenset({"hang-during", "cut", "truncated", "wrong-json", "empty"})
"""Kinds of faults that need an answer to spoil."""

_NO_JSON = b'{"id": "chatcmpl-1", "choices": [{"index": 0, "mess'
_EVENTS_BEFORE_FAULT = 2


class Delivery:
    """Sends answers over aiohttp."""

    def __init__(self) -> None:
        self._web = require("aiohttp.web", extra="http", needed_by="TimedServer")

    async def send(
        self, request: Any, reply: Mapping[str, Any] | AsyncIterator[bytes], fault: Fault | None
    ) -> Any:
        """Send an answer, whole or event by event, as far as the fault lets it through."""
        kind = fault.kind if fault else None
        if isinstance(reply, Mapping):
            return await self._whole(request, reply, kind)
        return await self._stream(request, reply, kind)

    async def _whole(self, request: Any, body: Mapping[str, Any], kind: str | None) -> Any:
        if kind == "empty":
            body = {**body, **{word: [] for word in ("choices", "data", "results") if word in body}}
        content = _NO_JSON if kind == "wrong-json" else json.dumps(body).encode()
        if kind not in ("hang-during", "cut", "truncated"):
            return self._web.Response(body=content, content_type="application/json")
        response = self._web.StreamResponse(headers={"Content-Length": str(len(content))})
        response.content_type = "application/json"
        await response.prepare(request)
        await response.write(content[: len(content) // 2])
        return await self._break_off(request, response, kind)

    async def _stream(self, request: Any, events: AsyncIterator[bytes], kind: str | None) -> Any:
        response = self._web.StreamResponse()
        response.content_type = "text/event-stream"
        response.charset = "utf-8"
        await response.prepare(request)
        # Closed here, so that what a client left is given up now and not at some collection.
        async with contextlib.aclosing(_spoilt(events, kind)) as sent:  # type: ignore[type-var]  # A generator.
            async for event in sent:
                await response.write(event)
        if kind in ("hang-during", "cut"):
            return await self._break_off(request, response, kind)
        await response.write_eof()
        return response

    async def _break_off(self, request: Any, response: Any, kind: str) -> Any:
        if kind == "hang-during":
            await forever()
        if kind == "cut":
            request.transport.abort()
        elif request.transport is not None:
            request.transport.close()
        return response


async def forever() -> None:
    """Wait until the client gives up, which cancels the handler."""
    await asyncio.get_running_loop().create_future()


async def _spoilt(events: AsyncIterator[bytes], kind: str | None) -> AsyncIterator[bytes]:
    """Return a stream's events as far as its fault lets them through."""
    count = 0
    async with contextlib.aclosing(events):  # type: ignore[type-var]  # A generator.
        async for event in events:
            if kind is not None and count == _EVENTS_BEFORE_FAULT:
                if kind == "wrong-json":
                    yield b"data: " + _NO_JSON + b"\n\n"
                break
            yield _without_choices(event) if kind == "empty" else event
            count += 1
    if kind == "empty":
        yield END_OF_STREAM


def _without_choices(event: bytes) -> bytes:
    body = json.loads(event.removeprefix(b"data: "))
    return b"data: " + json.dumps({**body, "choices": []}).encode() + b"\n\n"
