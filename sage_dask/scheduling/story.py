"""What happened to the last few thousand tasks, and why."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from sage_dask.scheduling.view import Key

# Chapters of a task that is re-placed again and again; the first and the last ones are kept.
_MOST_CHAPTERS = 64


@dataclass(frozen=True, slots=True)
class Chapter:
    """One thing that happened to a task."""

    at_s: float
    what: str
    why: str = ""

    def __str__(self) -> str:
        return f"{self.what} ({self.why})" if self.why else self.what


class Stories:
    """Chapters by task, the tasks that were last heard of.

    Args:
        size: Tasks to keep.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        # Of a thousand tasks somebody asks about one: chapters are made when they are read.
        self._chapters: OrderedDict[Key, list[tuple[float, str, str]]] = OrderedDict()

    def add(self, key: Key, at_s: float, what: str, why: str = "") -> None:
        """Note what happened."""
        chapters = self._chapters.get(key)
        if chapters is None:
            chapters = self._chapters[key] = []
            if len(self._chapters) > self._size:
                self._chapters.popitem(last=False)
        else:
            self._chapters.move_to_end(key)
        if len(chapters) >= _MOST_CHAPTERS:
            del chapters[_MOST_CHAPTERS // 2]
        chapters.append((at_s, what, why))

    def of(self, key: Key) -> list[Chapter]:
        """Return what is known of a task, first things first."""
        return [Chapter(*chapter) for chapter in self._chapters.get(key, ())]

    def find(self, matches: Callable[[Key], bool]) -> Iterator[Key]:
        """Yield the keys that match, the latest first."""
        return (key for key in reversed(self._chapters) if matches(key))
