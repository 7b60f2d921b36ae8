"""All marks of a journal in memory, and where their entries lie in its files.

About sixty bytes per entry: two numbers in a page of neighbouring places, and the digest
and the id, one behind the other, in one long string of bytes.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from typing import NamedTuple

from sage_dask.journal.entries import Mark
from sage_dask.journal.key_set import KeySet

# Places per page: few enough that a lone place costs little, enough that pages are few.
_PAGE = 256

# Neither occurs in UTF-8.
_END, _NO_ID = b"\xff", b"\xfe"


class Found(NamedTuple):
    """A mark, and where its entry lies."""

    mark: Mark
    location: int


class EntryIndex:
    """Which places have entries.  The first entry of a place, and of an id, stays."""

    def __init__(self) -> None:
        # Per place: location and flag, 0 for none; where its head begins.
        self._pages: dict[int, array[int]] = {}
        # Heads: length of the digest, digest, id, end.
        self._heads = bytearray()
        self._ids = KeySet(self._heads, _END)
        self.num_entries = 0
        self.num_failed = 0

    def __contains__(self, seq: int) -> bool:
        page = self._pages.get(seq // _PAGE)
        return page is not None and page[seq % _PAGE * 2] != 0

    def add(self, mark: Mark, location: int) -> bool:
        """Add an entry; return whether its place and id were free, else nothing changes.

        Args:
            mark: Of the entry; the digest has at most 255 bytes.
            location: At least 1, below 2 ** 63.
        """
        key = _key(mark.id)
        if mark.seq in self or (mark.id is not None and key in self._ids):
            return False
        head = len(self._heads)
        self._heads += b"%c%b%b" % (len(mark.digest), mark.digest, key)
        if mark.id is not None:
            self._ids.add(key, len(self._heads) - len(key))
        self._put(mark.seq, location << 1 | mark.is_failed, head)
        return True

    def remove(self, seq: int) -> None:
        """Remove the entry of a place, if there is one."""
        if seq in self:
            _, head = self._take(seq)
            _, record_id = self._read(head)
            if record_id is not None:
                self._ids.remove(_key(record_id))

    def renumber(self, places: Iterable[tuple[int, int]]) -> None:
        """Give entries other places, as ``(old, new)``, all at once."""
        # All are taken before the first is put: a new place may be another's old one.
        taken = [(new, *self._take(old)) for old, new in places if old in self]
        for new, cell, head in taken:
            self._put(new, cell, head)

    def pages(self, after: int = -1) -> list[int]:
        """Return the pages that hold places above ``after``, in order."""
        return sorted(page for page in self._pages if page >= (after + 1) // _PAGE)

    def page(self, number: int) -> list[Found]:
        """Return what a page holds, in order; nothing if it is gone."""
        cells = self._pages.get(number, ())
        return [
            Found(self._mark(number * _PAGE + at, cells[2 * at], cells[2 * at + 1]), cell >> 1)
            for at, cell in enumerate(cells[::2])
            if cell
        ]

    def _mark(self, seq: int, cell: int, head: int) -> Mark:
        digest, record_id = self._read(head)
        return Mark(seq, record_id, digest, bool(cell & 1))

    def _put(self, seq: int, cell: int, head: int) -> None:
        page = self._pages.get(seq // _PAGE)
        if page is None:
            page = self._pages[seq // _PAGE] = array("Q", bytes(16 * _PAGE))
        page[seq % _PAGE * 2], page[seq % _PAGE * 2 + 1] = cell, head
        self.num_entries += 1
        self.num_failed += cell & 1

    def _take(self, seq: int) -> tuple[int, int]:
        page, at = self._pages[seq // _PAGE], seq % _PAGE * 2
        cell, head = page[at], page[at + 1]
        page[at] = 0
        self.num_entries -= 1
        self.num_failed -= cell & 1
        return cell, head

    def _read(self, head: int) -> tuple[bytes, str | None]:
        start = head + 1
        end = start + self._heads[head]
        text = self._heads[end : self._heads.index(_END, end)]
        record_id = None if text == _NO_ID else text.decode("utf-8", "surrogatepass")
        return bytes(self._heads[start:end]), record_id


def _key(record_id: str | None) -> bytes:
    return (_NO_ID if record_id is None else record_id.encode("utf-8", "surrogatepass")) + _END
