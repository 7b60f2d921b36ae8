"""Servers' gauges, asked when the dispatcher wants to know: the only I/O beside the shells."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TypeAlias

from sage_dask.endpoint.gauges import Gauges
from sage_dask.endpoint.polling import GaugeReader
from sage_dask.scheduling.servers import Servers

# Takes the endpoint, what it said, and when.
Observe: TypeAlias = Callable[[str, Gauges, float], None]

# How often it is looked whether a server has come into use.
_IDLE_S = 0.25


async def ask_servers(servers: Callable[[], Servers], observe: Observe) -> None:
    """Ask servers for their gauges as long as it is not cancelled.

    Args:
        servers: Returns those that there are; they may be replaced meanwhile.
        observe: Takes what a server said; one that says nothing is left to go stale.

    Raises:
        MissingDependencyError: There is no HTTP client to ask with.
    """
    reader = GaugeReader()

    async def ask(endpoint: str) -> None:
        """Ask one server."""
        gauges = await reader.read(endpoint)
        if gauges is not None:
            observe(endpoint, gauges, time.monotonic())

    try:
        while True:
            await asyncio.gather(*map(ask, servers().polls(time.monotonic())))
            wait_s = servers().next_poll_s
            await asyncio.sleep(_IDLE_S if wait_s is None else wait_s)
    finally:
        await reader.close()
