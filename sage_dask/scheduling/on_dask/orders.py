"""What an operator orders the driver of a job: an event that the driver hears.

Orders go through the scheduler and are not kept for drivers that come later.  They
need no dispatcher, so that jobs whose tasks Dask places hear them, too.
"""

from __future__ import annotations

import getpass
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias

from distributed import Client

from sage_dask.scheduling.on_dask.topics import listening

# Events of this topic are orders.
ORDERS = "sage-dask-orders"

What: TypeAlias = Literal["pause", "resume", "cancel"]


@dataclass(frozen=True, slots=True)
class Order:
    """One order to one job."""

    job: str
    """``"pipeline/id"``."""
    what: What
    by: str
    """Who ordered it, for people."""

    def send(self, log_event: Callable[[str, Any], object]) -> None:
        """Send it by way of a client's or a scheduler's ``log_event``."""
        log_event(ORDERS, asdict(self))


@contextmanager
def hearing(client: Client, job: str, receiver: Callable[[Order], None]) -> Iterator[None]:
    """Have a receiver called with the orders to one job, on the client's event loop."""

    def receive(said: Mapping[str, Any]) -> None:
        order = Order(**said)
        if order.job == job:
            receiver(order)

    with listening(client, ORDERS, receive):
        yield


def who() -> str:
    """Return who runs this process, and where."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):
        # A container may run under a number that has no name.
        user = "somebody"
    return f"{user} on {socket.gethostname()}"
