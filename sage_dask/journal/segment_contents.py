"""What a journal in segments holds, kept in memory without bodies, as its lines tell it.

Committing and opening both come here, line by line, so both arrive at the same.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from typing import Any

from sage_dask.journal.entry_index import EntryIndex
from sage_dask.journal.segment_rows import (
    ENTRY,
    EVENT,
    FACT,
    FORGET,
    MEMO,
    RENUMBER,
    fact_of,
    mark_of,
)
from sage_dask.journal.store import JournalError


class Contents:
    """Which places hold what, and where its line lies."""

    def __init__(self) -> None:
        self.entries = EntryIndex()
        self.memos: dict[int, int] = {}
        self.events = array("Q")
        self.facts: dict[str, str] = {}

    def apply(self, fields: list[Any], location: int) -> None:
        """Do what a committed line says.

        Raises:
            ValueError: No line of this kind is known.
        """
        kind = fields[0]
        if kind == ENTRY:
            if self.entries.add(mark_of(fields), location):
                self.memos.pop(fields[1], None)
        elif kind == MEMO:
            if fields[1] not in self.entries:
                self.memos[fields[1]] = location
        elif kind == EVENT:
            self.events.append(location)
        elif kind == FACT:
            name, fact = fact_of(fields)
            self.facts[name] = fact
        elif kind == FORGET:
            for seq in fields[1]:
                self.entries.remove(seq)
                self.memos.pop(seq, None)
        elif kind == RENUMBER:
            self._renumber(fields[1])
        else:
            raise ValueError(kind)

    def _renumber(self, places: list[tuple[int, int]]) -> None:
        self.entries.renumber(places)
        memos = [(new, self.memos.pop(old)) for old, new in places if old in self.memos]
        self.memos.update(memos)

    def held(self, places: Iterable[int]) -> list[int]:
        """Return those of some places that hold something."""
        return [seq for seq in places if seq in self.entries or seq in self.memos]

    def moves(self, places: Iterable[tuple[int, int]]) -> dict[int, int]:
        """Return where what old places hold goes.

        Raises:
            JournalError: Two would share a place.
        """
        wanted = dict(places)
        moves = {old: wanted[old] for old in self.held(wanted)}
        shared = [new for new in self.held(moves.values()) if new not in moves]
        if shared or len(set(moves.values())) < len(moves):
            raise JournalError(
                f"renumbering {len(moves)} places would put two entries into one"
                f"{f', such as {shared[0]}' if shared else ''}; give each a place of its own"
            )
        return moves
