"""A model server that answers as a test tells it, and operators that are torn down."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from aiohttp import web

from sage_dask import aio


class ScriptedServer:
    """Answers each request with what a function returns: a body, or a status and a body."""

    def __init__(self, answer: Callable[[dict[str, Any]], Any]) -> None:
        self.requests: list[tuple[str, dict[str, Any]]] = []
        """Path below ``/v1/`` and body of each request, in the order of arrival."""
        self.headers: list[Any] = []
        self._answer = answer

    @property
    def bodies(self) -> list[dict[str, Any]]:
        """The bodies of all requests."""
        return [body for _, body in self.requests]

    async def start(self) -> None:
        """Listen on a free port of loopback."""
        app = web.Application()
        app.router.add_post("/v1/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, shutdown_timeout=0)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.endpoint = f"http://127.0.0.1:{self._runner.addresses[0][1]}/v1"

    async def stop(self) -> None:
        """Close all connections."""
        await self._runner.cleanup()

    async def _handle(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.requests.append((request.match_info["path"], body))
        self.headers.append(request.headers)
        answer = self._answer(body)
        status, answer = answer if isinstance(answer, tuple) else (200, answer)
        return web.json_response(answer, status=status)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    """Keep the answers of tests out of the user's cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def serve():
    """Lend out scripted servers: ``serve(lambda body: {...})``."""
    servers = []

    def start(answer):
        server = ScriptedServer(answer)
        aio.run(server.start())
        servers.append(server)
        return server

    yield start
    for server in servers:
        aio.run(server.stop())


@pytest.fixture
def set_up():
    """Check operators and set them up, and tear them down when the test is over."""
    operators = []

    def make(operator):
        operator.check()
        operator.setup()
        operators.append(operator)
        return operator

    yield make
    for operator in operators:
        operator.teardown()
