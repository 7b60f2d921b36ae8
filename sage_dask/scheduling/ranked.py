"""A set in the order of keys that change: first, next, move, all in logarithmic time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sortedcontainers import SortedList


class Ranked:
    """Names ordered by a key each; equal keys go by name."""

    __slots__ = ("_keys", "_order")

    def __init__(self) -> None:
        self._keys: dict[str, Any] = {}
        self._order = SortedList()

    def put(self, name: str, key: Any) -> None:
        """Add a name, or move it to another key."""
        if name in self._keys:
            old = self._keys[name]
            if old == key:
                return
            self._order.remove((old, name))
        self._keys[name] = key
        self._order.add((key, name))

    def discard(self, name: str) -> None:
        """Take a name out, if it is in."""
        if name in self._keys:
            self._order.remove((self._keys.pop(name), name))

    @property
    def first(self) -> str:
        """The name with the smallest key."""
        name: str = self._order[0][1]
        return name

    @property
    def first_key(self) -> Any:
        """The smallest key."""
        return self._order[0][0]

    def key(self, name: str) -> Any:
        """Return the key of a name; None where it is not in."""
        return self._keys.get(name)

    def __contains__(self, name: object) -> bool:
        return name in self._keys

    def __iter__(self) -> Iterator[str]:
        return (name for _, name in self._order)

    def __len__(self) -> int:
        return len(self._keys)
