"""Whether a Dask scheduler answers at an address, found out within seconds.

Dask's own client tries a port that refuses again and again for half a minute, and
waits without end for one that accepts and says nothing, such as a dashboard's.
"""

from __future__ import annotations

import asyncio
import socket
from concurrent.futures import ThreadPoolExecutor

from distributed.comm import connect, parse_address, parse_host_port
from distributed.security import Security

from sage_dask.errors import RunError

CONNECT_S = 5.0

# Dask's own, where an address names none.
_PORT = 8786


def reach(address: str) -> None:
    """Knock at a scheduler, and say hello.

    Raises:
        RunError: The address makes no sense, nobody is there, or nobody answers.
    """
    try:
        scheme, place = parse_address(address)
        if scheme in ("tcp", "tls"):
            with socket.create_connection(parse_host_port(place, _PORT), CONNECT_S):
                pass
        # In a thread: whoever asks may be within an event loop, as in a notebook.
        with ThreadPoolExecutor(1) as pool:
            pool.submit(asyncio.run, _greet(address)).result()
    except (OSError, ValueError) as error:
        silence = f"it accepts connections, and says nothing for {CONNECT_S:g} s"
        reason = getattr(error, "strerror", None) or str(error) or silence
        raise RunError(
            f"no Dask scheduler answers at {address!r} ({reason}); look whether it runs or hangs, "
            "whether that is its port and not its dashboard's, and whether a firewall is between, "
            "or start one with 'dask scheduler'"
        ) from error


async def _greet(address: str) -> None:
    # Dask keeps to its own limit while it connects, and not while it waits for a greeting.
    async with asyncio.timeout(CONNECT_S):
        comm = await connect(address, timeout=CONNECT_S, **Security().get_connection_args("client"))
    comm.abort()
