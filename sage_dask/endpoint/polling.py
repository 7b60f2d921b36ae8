"""Asking model servers how busy they are."""

from __future__ import annotations

from typing import Any

from sage_dask.endpoint.address import metrics_url
from sage_dask.endpoint.gauges import Gauges, parse_gauges
from sage_dask.extras import require

# A server that takes longer to say how busy it is tells old news.
_TIMEOUT_S = 2.0


class GaugeReader:
    """Reads the gauges of model servers; belongs to the event loop that first uses it."""

    def __init__(self) -> None:
        self._aiohttp = require("aiohttp", extra="http", needed_by="following a server's load")
        self._session: Any = None

    async def read(self, endpoint: str) -> Gauges | None:
        """Return what a server says of its load; None where it says nothing that is understood."""
        if self._session is None:
            timeout = self._aiohttp.ClientTimeout(total=_TIMEOUT_S)
            self._session = self._aiohttp.ClientSession(timeout=timeout)
        try:
            url = metrics_url(endpoint)
            # No key goes with it: vLLM's metrics need none, and the scheduler has none.
            async with self._session.get(url, allow_redirects=False) as answer:
                return parse_gauges(await answer.text()) if answer.status == 200 else None
        except (TimeoutError, self._aiohttp.ClientError, OSError, ValueError):
            return None

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None
