"""The few ids most like one that is not there, out of any number of them.

Looking takes four times as long as following a record, so that it is done for ids alone
that were not found.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from difflib import SequenceMatcher

from sage_dask.events import BatchFormed, Event

_MOST = 3

# Less alike than this is another id, not a slip of the pen.
_LEAST_RATIO = 0.6


def nearest_ids(wanted: str, events: Iterable[Event]) -> tuple[str, ...]:
    """Return the ids of a run's records that are most like a wanted one, the most alike first."""
    nearest = Nearest(wanted)
    for event in events:
        if isinstance(event, BatchFormed):
            nearest.add(event.ids)
    return nearest.found()


class Nearest:
    """Keeps the ids that are most like a wanted one, and no others.

    Args:
        wanted: The id that is looked for.
    """

    def __init__(self, wanted: str) -> None:
        self._matcher = SequenceMatcher(autojunk=False)
        # Difflib prepares the second text and keeps that while the first one changes.
        self._matcher.set_seq2(wanted)
        self._best: list[tuple[float, str]] = []

    def add(self, ids: Sequence[str]) -> None:
        """Look at some ids."""
        matcher, bar = self._matcher, self._bar
        for each in ids:
            matcher.set_seq1(each)
            # From the cheapest bound to the ratio itself; most ids fall at the first two.
            if matcher.real_quick_ratio() <= bar or matcher.quick_ratio() <= bar:
                continue
            ratio = matcher.ratio()
            if ratio <= bar or any(each == known for _, known in self._best):
                continue
            heapq.heappush(self._best, (ratio, each))
            if len(self._best) > _MOST:
                heapq.heappop(self._best)
            bar = self._bar

    @property
    def _bar(self) -> float:
        """What a further id has to be above."""
        return self._best[0][0] if len(self._best) == _MOST else _LEAST_RATIO

    def found(self) -> tuple[str, ...]:
        """Return the ids, the most alike first."""
        return tuple(each for _, each in sorted(self._best, key=lambda best: (-best[0], best[1])))
