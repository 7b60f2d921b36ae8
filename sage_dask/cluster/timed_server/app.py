"""The routes of a timed server: those of vLLM, each request with its name, key and fault."""

from __future__ import annotations

import json
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

from sage_dask.cluster.timed_server import bodies, pooling
from sage_dask.cluster.timed_server.asking import read_ask, read_text
from sage_dask.cluster.timed_server.control import Control
from sage_dask.cluster.timed_server.delivery import DURING, Delivery
from sage_dask.cluster.timed_server.ledger import request_id
from sage_dask.cluster.timed_server.refusal import RefusalError, UnauthorizedError, invalid
from sage_dask.cluster.timed_server.service import TextService
from sage_dask.cluster.timed_server.strikes import Strikes
from sage_dask.cluster.timed_server.text import token_id, tokens_of
from sage_dask.cluster.timed_server.world import World
from sage_dask.extras import require
from sage_dask.version import __version__

_MOST_BODY_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class _Call:
    """A request as it came in."""

    number: int
    """Ordinal number, from 1."""
    answer_name: str
    """What the id of the answer ends with."""


# What answers a request: a body, or the events of a stream.
_Reply: TypeAlias = Mapping[str, Any] | AsyncIterator[bytes]
_Answering: TypeAlias = Callable[[Any, _Call], Awaitable[_Reply]]


class TimedApp:
    """Handlers of vLLM's routes.

    Args:
        world: The server behind them.
    """

    def __init__(self, world: World) -> None:
        self._web = require("aiohttp.web", extra="http", needed_by="TimedServer")
        self._world = world
        self._service = TextService(world.options, world.driver, world.metrics)
        self._strikes = Strikes(world)
        self._delivery = Delivery()

    def application(self) -> Any:
        """Return the aiohttp application."""
        app = self._web.Application(client_max_size=_MOST_BODY_BYTES)
        for path, handler in {
            "/health": self._health,
            "/version": self._version,
            "/metrics": self._metrics,
            "/v1/models": self._models,
        }.items():
            app.router.add_get(path, handler)
        answers: dict[str, _Answering] = {
            "/v1/chat/completions": partial(self._text, is_chat=True),
            "/v1/completions": partial(self._text, is_chat=False),
            "/v1/embeddings": self._embed,
            "/v1/rerank": self._rerank,
            "/rerank": self._rerank,
        }
        for path, answering in answers.items():
            app.router.add_post(path, partial(self._handle, answering))
        app.router.add_post("/tokenize", self._tokenize)
        Control(self._world).add_routes(app.router)
        return app

    async def _handle(self, answering: _Answering, request: Any) -> Any:
        """Serve a request, or have it meet its fault."""
        content = await request.read()
        ledger = self._world.ledger
        header = request.headers.get("x-request-id")
        name = request_id(header, content)
        attempt = max(ledger.receive(name), _said_attempt(request.headers))
        call = _Call(ledger.received, header or f"{self._world.started:x}{ledger.received:08x}")
        try:
            self._authorise(request)
            fault = self._strikes.fault(name, call.number, attempt, content)
            if fault and (response := await self._strikes.strike(fault, request)) is not None:
                return response
            reply = await answering(_parsed(content), call)
        except RefusalError as refusal:
            return self._refusal(refusal)
        spoil = fault if fault and fault.kind in DURING else None
        response = await self._delivery.send(request, reply, spoil)
        if spoil is None:
            ledger.answer(name)
        return response

    def _authorise(self, request: Any) -> None:
        """Refuse a request without the key, as vLLM does: only under ``/v1``.

        Raises:
            UnauthorizedError: The key is missing, or another one.
        """
        key = self._world.options.api_key
        if key is None or not request.path.startswith("/v1"):
            return
        given = request.headers.get("Authorization", "")
        if not secrets.compare_digest(given.encode(), f"Bearer {key}".encode()):
            raise UnauthorizedError

    def _refusal(self, refusal: RefusalError) -> Any:
        return self._web.json_response(refusal.body, status=refusal.status)

    async def _text(self, body: Any, call: _Call, *, is_chat: bool) -> _Reply:
        ask = read_ask(body, self._world.options, is_chat=is_chat)
        if ask.is_streamed:
            return self._service.stream(ask, call.answer_name, call.number)
        return await self._service.whole(ask, call.answer_name, call.number)

    async def _embed(self, body: Any, call: _Call) -> _Reply:
        texts = pooling.read_texts(body, self._world.options)
        await self._service.score(texts)
        return pooling.embeddings(body, texts, self._world.options)

    async def _rerank(self, body: Any, call: _Call) -> _Reply:
        query, documents = pooling.read_documents(body, self._world.options)
        await self._service.score([query, *documents])
        return pooling.ranking(body, query, documents, self._world.options)

    async def _tokenize(self, request: Any) -> Any:
        try:
            text = read_text(_parsed(await request.read()), self._world.options)
        except RefusalError as refusal:
            return self._refusal(refusal)
        ids = [token_id(token) for token in tokens_of(text)]
        length = self._world.options.max_model_len
        return self._web.json_response(
            {"count": len(ids), "max_model_len": length, "tokens": ids, "token_strs": None}
        )

    async def _health(self, request: Any) -> Any:
        return self._web.Response()

    async def _version(self, request: Any) -> Any:
        return self._web.json_response({"version": __version__})

    async def _models(self, request: Any) -> Any:
        try:
            self._authorise(request)
        except RefusalError as refusal:
            return self._refusal(refusal)
        return self._web.json_response(bodies.models(self._world.options, self._world.started))

    async def _metrics(self, request: Any) -> Any:
        driver = self._world.driver
        driver.advance()
        text = self._world.metrics.render(driver.engine.statistics())
        return self._web.Response(text=text, content_type="text/plain", charset="utf-8")


def _parsed(content: bytes) -> Any:
    try:
        return json.loads(content)
    except ValueError:
        raise invalid("body.1", "json_invalid", "JSON decode error") from None


def _said_attempt(headers: Any) -> int:
    """Return which try a request says it is; each try of ours has an id of its own."""
    said = headers.get("x-request-attempt", "")
    return int(said) if said.isdecimal() else 1
