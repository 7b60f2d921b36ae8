"""A fixed number of colours, of which each thing keeps its own for as long as it is shown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping


class Slots:
    """Numbers from 0, given to names.

    Args:
        size: How many there are; names beyond them get none.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._taken: dict[str, int] = {}

    def assign(self, names: Iterable[str]) -> Mapping[str, int]:
        """Give each name a number that no other name has.

        Names that had one before keep it; numbers of names that are gone are free again.

        Args:
            names: All that are shown, the most important first.
        """
        wanted = list(dict.fromkeys(names))[: self._size]
        kept = {name: self._taken[name] for name in wanted if name in self._taken}
        free = iter(sorted({*range(self._size)} - {*kept.values()}))
        self._taken = {name: kept[name] if name in kept else next(free) for name in wanted}
        return self._taken
