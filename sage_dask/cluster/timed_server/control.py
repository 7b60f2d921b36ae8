"""The routes under ``/timed``: to look at a timed server, and to change it while it runs."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from sage_dask.cluster.timed_server.world import World
from sage_dask.extras import require

# For the answer that announces an outage to be out before it.
_OUTAGE_DELAY_S = 0.05


class Control:
    """Handlers of a timed server's own routes.

    Args:
        world: The server to look at and to change.
    """

    def __init__(self, world: World) -> None:
        self._web = require("aiohttp.web", extra="http", needed_by="TimedServer")
        self._world = world
        self._actions: dict[str, Callable[[dict[str, Any]], None]] = {
            "brownout": self._brown_out,
            "outage": self._outage,
            "reset": lambda _: world.reset(),
        }

    def add_routes(self, router: Any) -> None:
        """Add the routes to an aiohttp router."""
        router.add_get("/timed/stats", self._showing(self._world.statistics))
        router.add_get("/timed/ledger", self._showing(self._world.ledger.entries))
        for word in self._actions:
            router.add_post(f"/timed/{word}", partial(self._act, word))

    def _showing(self, body: Callable[[], Any]) -> Callable[[Any], Awaitable[Any]]:
        async def show(_request: Any) -> Any:
            return self._web.json_response(body())

        return show

    async def _act(self, word: str, request: Any) -> Any:
        try:
            self._actions[word](json.loads(await request.read() or b"{}"))
        except (KeyError, TypeError, ValueError) as error:
            return self._web.json_response({"error": f"{word}: {error!r}"}, status=400)
        return self._web.json_response({})

    def _brown_out(self, wanted: dict[str, Any]) -> None:
        self._world.driver.slow(float(wanted["factor"]), float(wanted["for_s"]))

    def _outage(self, wanted: dict[str, Any]) -> None:
        self._world.driver.later(_OUTAGE_DELAY_S, self._world.go_down, float(wanted["for_s"]))
