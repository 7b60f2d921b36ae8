"""A set in the order of keys that change.

A sorted list: places are found by bisection, and what moves in memory are pointers, so that
thousands of names cost a microsecond more than ten.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from typing import Any


class Ranked:
    """Names ordered by a key each; equal keys go by name."""

    __slots__ = ("_keys", "_order")

    def __init__(self) -> None:
        self._keys: dict[str, Any] = {}
        self._order: list[tuple[Any, str]] = []

    def put(self, name: str, key: Any) -> None:
        """Add a name, or move it to another key."""
        if name in self._keys:
            old = self._keys[name]
            if old == key:
                return
            del self._order[bisect_left(self._order, (old, name))]
        self._keys[name] = key
        insort(self._order, (key, name))

    def discard(self, name: str) -> None:
        """Take a name out, if it is in."""
        if name in self._keys:
            del self._order[bisect_left(self._order, (self._keys.pop(name), name))]

    @property
    def first(self) -> str:
        """The name with the smallest key."""
        return self._order[0][1]

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
