"""The baseline: asyncio and aiohttp with so many requests in flight, and nothing else.

It makes the same bodies and parses the same answers, but has no limits to find,
nothing to retry, and no account to keep.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator

from sage_dask.experiments.llm.load import Load
from sage_dask.extras import require


async def ask_plainly(load: Load, in_flight: int) -> tuple[int, int, float]:
    """Send a load to its first server.

    Returns:
        How many were sent, how many were answered, and seconds from the first to the last.
    """
    aiohttp = require("aiohttp", extra="http", needed_by="the plain client")
    url = f"{load.endpoints[0]}/chat/completions"
    numbers = load.numbers()
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:
        began_s = time.perf_counter()
        counts = await asyncio.gather(
            *(_ask_in_turn(session, url, load, numbers) for _ in range(in_flight))
        )
        seconds = time.perf_counter() - began_s
    return sum(sent for sent, _ in counts), sum(answered for _, answered in counts), seconds


async def _ask_in_turn(
    session: object, url: str, load: Load, numbers: Iterator[int]
) -> tuple[int, int]:
    """Send one request after the other, as long as there are any."""
    sent = answered = 0
    for number in numbers:
        sent += 1
        data = json.dumps(load.body(number), separators=(",", ":")).encode()
        headers = {"Content-Type": "application/json", "x-request-id": f"plain-{number}-1"}
        async with session.post(url, data=data, headers=headers) as answer:  # type: ignore[attr-defined]  # aiohttp's, which is optional
            body = json.loads(await answer.read())
            answered += answer.status == 200 and bool(body["choices"][0]["message"]["content"])
    return sent, answered
