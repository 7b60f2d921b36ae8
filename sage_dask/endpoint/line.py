"""The order in which requests get the slots of replicas that come free.

First come, first served, save that a slot of a replica may go to a request that
prefers this replica, and there to one with the prefix that was sent last.  How
often anyone is overtaken for that is bounded exactly, so nobody starves.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from typing import Any

from sage_dask.endpoint.routing import preferred

# Slots are freed by all replicas at random, so those that prefer one of two run ahead of the
# others as a random walk does; to be turned back after 64 steps costs some 2 % of affinity.
MOST_OVERTAKEN = 64
# The same for being overtaken by requests with the prefix that was sent last.  Much less than
# the bound above: who used that up is sent anywhere.
MOST_REGROUPED = 16


@dataclass(slots=True, eq=False)
class Waiter:
    """One request that waits."""

    number: int
    """Place in the order of arrival, over all lines of a process."""
    task: Hashable
    granted: asyncio.Future[Any]
    key: bytes | None = None
    """Stands for its prefix; None for a request without one."""
    favourite: str | None = None
    """The endpoint that its prefix prefers, among those that can be used."""


class Queue:
    """A queue that lets some out of turn, and knows how often its first was overtaken."""

    __slots__ = ("_left", "_waiters")

    def __init__(self) -> None:
        # Ordered by arrival; unlike those of a dict, its first item is found in O(1) even
        # after many others left from the front.
        self._waiters: OrderedDict[Waiter, int] = OrderedDict()
        self._left = 0

    def add(self, waiter: Waiter) -> None:
        """Have a request wait behind the others."""
        # By then so many will have left if nobody overtakes it.
        self._waiters[waiter] = self._left + len(self._waiters)

    def remove(self, waiter: Waiter) -> None:
        """Take a request out, wherever it stands."""
        del self._waiters[waiter]
        self._left += 1

    @property
    def first(self) -> Waiter:
        """The request that has waited longest."""
        return next(iter(self._waiters))

    @property
    def overtaken(self) -> int:
        """How many that came after the first one left before it.

        Nobody behind it was overtaken more often: who overtook them overtook the first, too.
        """
        return self._left - self._waiters[self.first] if self._waiters else 0

    def __contains__(self, waiter: Waiter) -> bool:
        return waiter in self._waiters

    def __iter__(self) -> Iterator[Waiter]:
        return iter(self._waiters)

    def __len__(self) -> int:
        return len(self._waiters)

    def __repr__(self) -> str:
        return f"<Queue {len(self)} waiting, first overtaken {self.overtaken} times>"


class Line:
    """The waiting requests of one job that may go to the same endpoints."""

    def __init__(self, endpoints: tuple[str, ...]) -> None:
        self._endpoints = endpoints
        self._usable = endpoints
        self._all = Queue()
        self._by_favourite: dict[str | None, Queue] = {}
        self._by_key: dict[bytes, Queue] = {}

    @property
    def first(self) -> Waiter:
        """The request that has waited longest."""
        return self._all.first

    def favourite(self, key: bytes | None) -> str | None:
        """Return the usable endpoint that a prefix prefers."""
        return None if key is None else preferred(key, self._usable)

    def add(self, waiter: Waiter) -> None:
        """Have a request wait behind the others."""
        self._all.add(waiter)
        self._sort_in(waiter)

    def remove(self, waiter: Waiter) -> None:
        """Take a request out, wherever it stands."""
        self._all.remove(waiter)
        _remove(self._by_favourite, waiter.favourite, waiter)
        if waiter.key is not None:
            _remove(self._by_key, waiter.key, waiter)

    def discard(self, waiter: Waiter) -> None:
        """Take a request out if it is still here."""
        if waiter in self._all:
            self.remove(waiter)

    def next_for(self, endpoint: str, after: bytes | None = None) -> Waiter:
        """Return who gets a free slot of an endpoint, where the prefix ``after`` was sent last."""
        if self._all.overtaken >= MOST_OVERTAKEN:
            return self._all.first
        content = self._by_favourite.get(endpoint), self._by_favourite.get(None)
        queues = [queue for queue in content if queue]
        if not queues:
            return self._all.first  # Prefers another replica, but a slot must not idle.
        queue = min(queues, key=lambda each: each.first.number)
        alike = self._by_key.get(after) if after is not None else None
        if alike and queue is content[0] and queue.overtaken < MOST_REGROUPED:
            # The last one may have been a stranger here, and those like it are at home elsewhere.
            return alike.first if alike.first.favourite == endpoint else queue.first
        return queue.first

    def use(self, usable: tuple[str, ...]) -> None:
        """Let requests prefer only these of the endpoints; all of them, if there is none."""
        usable = usable or self._endpoints
        if usable == self._usable:
            return
        self._usable = usable
        self._by_favourite.clear()
        self._by_key.clear()
        for waiter in self._all:
            self._sort_in(waiter)

    def _sort_in(self, waiter: Waiter) -> None:
        waiter.favourite = self.favourite(waiter.key)
        self._by_favourite.setdefault(waiter.favourite, Queue()).add(waiter)
        if waiter.key is not None:
            self._by_key.setdefault(waiter.key, Queue()).add(waiter)

    def __iter__(self) -> Iterator[Waiter]:
        return iter(self._all)

    def __len__(self) -> int:
        return len(self._all)

    def __repr__(self) -> str:
        return f"<Line: {len(self)} waiting, first overtaken {self._all.overtaken} times>"


def _remove(queues: dict[Any, Queue], name: Any, waiter: Waiter) -> None:
    """Take a request out of a named queue, and the queue away with its last request."""
    queue = queues[name]
    queue.remove(waiter)
    if not queue:
        del queues[name]
