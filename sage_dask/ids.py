"""Which record ids were read before, in eight bytes each.

A set of strings costs a hundred bytes per id, which is the driver's whole
memory for a long input.  Ids are kept as 64-bit hashes in sorted arrays whose
sizes double (a log-structured merge), so that a batch is checked with a few
binary searches.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

# A merge needs its result's memory twice.  Levels are merged no further than to this many
# ids or this share of all, so that it stays a small part of the whole.
_SMALLEST_LIMIT = 1 << 17
_MOST_FULL_LEVELS = 32


class SeenIds:
    """The ids of one run.

    Two different ids share a hash with probability n² / 2^65 over n ids: one in forty
    million for a million ids.  The later of the two would be reported as a duplicate.
    """

    def __init__(self) -> None:
        self._levels: list[NDArray[np.int64]] = []

    def __len__(self) -> int:
        return sum(len(level) for level in self._levels)

    def add(self, ids: Sequence[str]) -> list[int]:
        """Remember ids, and return the places in ``ids`` of those that were seen before.

        The first of several equal ids within the call is new, the others are not.
        """
        hashes = np.fromiter(map(hash, ids), np.int64, len(ids))
        unique, first = np.unique(hashes, return_index=True)
        known = np.zeros(len(unique), bool)
        for level in self._levels:
            place = np.minimum(np.searchsorted(level, unique), len(level) - 1)
            known |= level[place] == unique
        self._push(unique[~known])
        if len(unique) == len(ids) and not known.any():
            return []
        new = set(first[~known].tolist())
        return [place for place in range(len(ids)) if place not in new]

    def _push(self, fresh: NDArray[np.int64]) -> None:
        """Add a sorted level, and merge while the last one is no larger than it."""
        if not len(fresh):
            return
        limit = max(_SMALLEST_LIMIT, len(self) // _MOST_FULL_LEVELS)
        while self._levels and len(self._levels[-1]) <= len(fresh) < limit:
            # A stable sort finds the two runs and merges them in linear time.
            fresh = np.sort(np.concatenate([self._levels.pop(), fresh]), kind="stable")
        self._levels.append(fresh)
