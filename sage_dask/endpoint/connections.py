"""One pool of connections per event loop, shared by all who send requests from it.

A process has one loop for requests, so this is its one pool: a second stage on
the same server finds the connections open.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from sage_dask.extras import require
from sage_dask.version import __version__

# Below the 5 s after which uvicorn, vLLM's web server, closes an idle connection: one that is
# taken up again in that moment breaks, and a POST is not repeated for us.
_KEEPALIVE_S = 4.0


@dataclass(slots=True)
class _Shared:
    session: Any
    users: int = 0


_sessions: dict[asyncio.AbstractEventLoop, _Shared] = {}


def lease() -> Any:
    """Return the running loop's ``aiohttp.ClientSession``; give it back when done."""
    loop = asyncio.get_running_loop()
    shared = _sessions.get(loop)
    if shared is None:
        shared = _sessions[loop] = _Shared(_opened())
    shared.users += 1
    return shared.session


async def give_back() -> None:
    """End one lease of the running loop's session; the last one closes the connections."""
    loop = asyncio.get_running_loop()
    shared = _sessions[loop]
    shared.users -= 1
    if shared.users == 0:
        del _sessions[loop]  # Before the wait, in which another lease may begin.
        await shared.session.close()


def _opened() -> Any:
    aiohttp = require("aiohttp", extra="http", needed_by="a model server's endpoint")
    return aiohttp.ClientSession(
        # No limit here: slots hold requests back before their deadlines run.
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEPALIVE_S),
        # Keys differ between users of the pool, so nothing that a server sets may stick.
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"User-Agent": f"sage-dask/{__version__}", "Content-Type": "application/json"},
    )
