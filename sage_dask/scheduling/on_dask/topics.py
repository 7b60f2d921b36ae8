"""Several listeners to one topic of one client.

Dask keeps one handler per topic and client, and the later replaces the earlier;
a client may run several pipelines at once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from threading import Lock
from typing import Any, TypeAlias
from weakref import WeakKeyDictionary

from distributed import Client

Receiver: TypeAlias = Callable[[Any], None]

_receivers: WeakKeyDictionary[Client, defaultdict[str, list[Receiver]]] = WeakKeyDictionary()
_changing = Lock()


@contextmanager
def listening(client: Client, topic: str, receiver: Receiver) -> Iterator[None]:
    """Have a receiver called with each message of a topic, on the client's event loop."""
    with _changing:
        receivers = _receivers.setdefault(client, defaultdict(list))[topic]
        receivers.append(receiver)
        if len(receivers) == 1:
            client.subscribe_topic(topic, partial(_pass_on, receivers))
    try:
        yield
    finally:
        with _changing:
            receivers.remove(receiver)
            # A client that has lost its scheduler would wait for it; nothing comes from there.
            if not receivers and client.status == "running":
                client.unsubscribe_topic(topic)


def _pass_on(receivers: list[Receiver], event: tuple[float, Any]) -> None:
    _, message = event
    # A copy: those who listen come and go in other threads.
    for receiver in list(receivers):
        receiver(message)
