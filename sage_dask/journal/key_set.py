"""A set of keys that stand, one somewhere behind the other, in one long string of bytes.

A million short keys in a ``set`` take a hundred megabytes; their positions here take
about sixteen.
"""

from __future__ import annotations

from array import array

# What a slot holds: nothing, a key that was removed, or a position and this much.
_EMPTY, _REMOVED, _FIRST = 0, 1, 2

# Of three slots one is used after growing; beyond two the next free one is far.
_SLOTS_PER_KEY = 3
_MOST_FULL = 2 / 3
_SMALLEST = 64


class KeySet:
    """Tells which keys are there.

    Args:
        kept: Where they stand; it only grows.
        end: The byte that ends a key and is nowhere else in it.
    """

    def __init__(self, kept: bytearray, end: bytes) -> None:
        self._kept = kept
        self._end = end
        self._slots = _empty(_SMALLEST)
        self._num_used = 0

    def __contains__(self, key: bytes) -> bool:
        return self._slots[self._slot(key)] != _EMPTY

    def add(self, key: bytes, position: int) -> None:
        """Add a key that is not there, its end included."""
        if self._num_used >= _MOST_FULL * len(self._slots):
            self._grow()
        self._slots[self._slot(key)] = position + _FIRST
        self._num_used += 1

    def remove(self, key: bytes) -> None:
        """Remove a key that is there."""
        # Its slot stays used: keys behind it are found by passing over it.
        self._slots[self._slot(key)] = _REMOVED

    def _slot(self, key: bytes) -> int:
        """Return the slot of a key, or the empty one where it would stand."""
        slots, kept = self._slots, self._kept
        slot = hash(key) % len(slots)
        while (held := slots[slot]) != _EMPTY:
            if held != _REMOVED and kept.startswith(key, held - _FIRST):
                break
            slot = (slot + 1) % len(slots)
        return slot

    def _grow(self) -> None:
        held = self._slots
        num_keys = sum(slot >= _FIRST for slot in held)
        self._slots = _empty(max(_SMALLEST, _SLOTS_PER_KEY * num_keys))
        self._num_used = 0
        for slot in held:
            if slot >= _FIRST:
                start = slot - _FIRST
                end = self._kept.index(self._end, start) + 1
                self.add(bytes(self._kept[start:end]), start)


def _empty(size: int) -> array[int]:
    return array("Q", bytes(8 * size))
