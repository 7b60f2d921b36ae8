"""The open port of a timed server, which can go away and come back.

A second socket is bound to the port and never listens.  It keeps the port
ours while nobody answers there: connections are refused then, and no other
program, nor the outgoing end of a connection, can get the number.
"""

from __future__ import annotations

import asyncio
import math
import socket
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from sage_dask.cluster.timed_server.app import TimedApp
from sage_dask.cluster.timed_server.options import TimedOptions
from sage_dask.cluster.timed_server.world import World
from sage_dask.extras import require


def hold_port(host: str, port: int) -> socket.socket:
    """Return a socket that keeps a port and does not listen; port 0 for any that is free."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    held = socket.socket(family, socket.SOCK_STREAM)
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        held.bind((host, port))
    except OSError:
        held.close()
        raise
    return held


class Listener:
    """Serves a timed server's application; all methods are called on its event loop.

    Args:
        options: How the server behaves.
        host: Address to listen on.
        port: As it was got from ``hold_port``, whose socket must stay open.
        die: What the fault of that name does; None: it is an outage without end.
    """

    def __init__(
        self,
        options: TimedOptions,
        host: str,
        port: int,
        *,
        die: Callable[[], None] | None = None,
    ) -> None:
        self._web = require("aiohttp.web", extra="http", needed_by="TimedServer")
        self._host, self._port = host, port
        self._loop = asyncio.get_running_loop()
        self._site: Any = None
        self._changes: set[asyncio.Task[None]] = set()
        self._returns: asyncio.TimerHandle | None = None
        go_down = partial(self._soon, self.go_down)
        self.world = World(options, go_down=go_down, die=die or partial(go_down, math.inf))
        self._runner: Any = None

    async def start(self) -> None:
        """Begin to answer."""
        self._runner = self._web.AppRunner(
            TimedApp(self.world).application(),
            access_log=None,
            # A client that goes away gives up its sequences, as with vLLM.
            handler_cancellation=True,
            shutdown_timeout=0.0,
        )
        await self._runner.setup()
        await self.come_back()

    async def stop(self) -> None:
        """Reset what is open, and answer no more."""
        if self._returns is not None:
            self._returns.cancel()
        self._reset_connections()
        await self._runner.cleanup()
        self.world.driver.close()

    async def go_down(self, for_s: float) -> None:
        """Be gone for a while from now on: connections are reset, and new ones refused."""
        if self._returns is not None:
            self._returns.cancel()
        self._returns = None
        if not math.isinf(for_s):
            self._returns = self._loop.call_later(for_s, self._soon, self.come_back)
        site, self._site = self._site, None
        if site is not None:
            await site.stop()
        self._reset_connections()

    async def come_back(self) -> None:
        """Answer again, if it is gone."""
        if self._site is None:
            self._site = self._web.TCPSite(
                self._runner, self._host, self._port, backlog=1024, reuse_port=True
            )
            await self._site.start()

    def _soon(self, change: Callable[..., Coroutine[Any, Any, None]], *arguments: Any) -> None:
        """Begin a change from where nobody can wait for it."""
        task = self._loop.create_task(change(*arguments))
        self._changes.add(task)  # The loop itself holds tasks only weakly.
        task.add_done_callback(self._changes.discard)

    def _reset_connections(self) -> None:
        for connection in list(self._runner.server.connections):
            if connection.transport is not None:
                connection.transport.abort()
