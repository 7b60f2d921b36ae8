"""What earlier starts of a run are done with, held against the input as it is read now.

Entries and input stand in the same order, so one pass over both tells for each
record whether it is done, begun or new, in memory that does not grow.  The id
and the digest of what is done must be those of the record that stands there.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

from sage_dask.errors import PlanError
from sage_dask.journal.codec import digest
from sage_dask.journal.entries import Mark
from sage_dask.journal.rows import Row
from sage_dask.priority import Items, priority_of
from sage_dask.record import Failure, SourceItem

# Ids of records that are done are remembered by so many at a time.
_CHUNK = 1024

_END = Mark(-1, None, b"", False)

_MEND = (
    "undo the change, give another run_dir, or pass --extend (extend=True) where records were "
    "only added"
)


class InputChangedError(PlanError):
    """The input is not the one that a run folder was begun with."""


class Begun(NamedTuple):
    """A record whose costly stages are done."""

    item: SourceItem
    seq: int
    digest: bytes
    row: Row
    """What they made of it."""


class Kind(NamedTuple):
    """What records that are begun must have in common to travel together."""

    start: int
    """Tasks that are done."""
    priority: float


class Finished:
    """Parts an input into what is done, what is begun and what is new.

    Args:
        source: Name of the input, for messages.
        marks: What is done, in the order of reading.
        memos: What is begun, by place: the number of tasks that are done, and their result.
        num_items: How many items the whole input had, where an earlier start read all of it.
        record_priority: Field of the records' priority.
    """

    def __init__(
        self,
        source: str,
        marks: Iterable[Mark] = (),
        memos: Mapping[int, tuple[int, Row]] | None = None,
        *,
        num_items: int | None = None,
        record_priority: str | None = None,
    ) -> None:
        self._source = source
        self._marks = iter(marks)
        self._memos = dict(memos or {})
        self._num_items = num_items
        self._record_priority = record_priority
        self._begun: dict[Kind, deque[Begun]] = {}
        self.seqs: deque[int] = deque()
        """Places of the items that were let through and not yet asked for."""
        self.num_items = 0
        """Items that were read, also those that are done."""
        self.num_done = 0

    def unfinished(self, items: Items, remember: Callable[[list[str]], object]) -> Items:
        """Yield the items that are new, and set aside those that are begun.

        Args:
            items: The whole input.
            remember: Told of the ids of records that are done or begun, before any later
                item is yielded.

        Raises:
            InputChangedError: The input is another than before.
        """
        ids: list[str] = []
        mark = next(self._marks, _END)
        for seq, item in enumerate(items):
            self.num_items = seq + 1
            if seq == mark.seq:
                if self._is_record(mark, item):
                    ids.append(item.id)
                self.num_done += 1
                mark = next(self._marks, _END)
            elif seq in self._memos:
                self._set_aside(seq, item)
                ids.append(item.id)
            else:
                if self._num_items is not None and seq >= self._num_items:
                    raise self._changed(f"it had {self._num_items:,} rows, and has more")
                if ids:
                    remember(ids)
                    ids = []
                self.seqs.append(seq)
                yield item
            if len(ids) >= _CHUNK:
                remember(ids)
                ids = []
        if ids:
            remember(ids)
        if mark is not _END:
            raise self._changed(
                f"it ends after {self.num_items:,} rows, and row {mark.seq + 1:,}"
                f"{self._called(mark.id)} was done before"
            )
        for seq, (_, row) in self._memos.items():
            raise self._changed(
                f"it ends after {self.num_items:,} rows, and row {seq + 1:,}"
                f"{self._called(row.id)} was begun before"
            )

    def take_begun(self, limit: int) -> tuple[Kind, list[Begun]] | None:
        """Return records that are begun and of one kind, at most ``limit``; None without any."""
        for kind, waiting in self._begun.items():
            if waiting:
                return kind, [waiting.popleft() for _ in range(min(limit, len(waiting)))]
        return None

    def _is_record(self, mark: Mark, item: SourceItem | Failure) -> bool:
        """Check that an item is the one that was done; return whether its id was taken by it."""
        # First what nearly all of them are: a run may have a million.
        if type(item) is SourceItem and item.id == mark.id and digest(item.record) == mark.digest:
            return True
        if mark.id is None:
            # Refused as it was read: an unreadable row, or a record without an id of its own.
            is_same = not mark.digest or (
                isinstance(item, SourceItem) and digest(item.record) == mark.digest
            )
            if is_same and (mark.digest or isinstance(item, Failure)):
                return False
        elif isinstance(item, SourceItem) and item.id == mark.id:
            raise self._changed(
                f"row {mark.seq + 1:,}, record {mark.id!r}, is not what it was when it was done"
            )
        raise self._changed(
            f"row {mark.seq + 1:,} is {item.id!r}, and what was done there{self._called(mark.id)} "
            "is another"
        )

    def _set_aside(self, seq: int, item: SourceItem | Failure) -> None:
        start, row = self._memos.pop(seq)
        mark = Mark(seq, row.id, row.digest, is_failed=False)
        if self._is_record(mark, item) and isinstance(item, SourceItem):
            field = self._record_priority
            priority = 0.0 if field is None else priority_of(item.record, field) or 0.0
            waiting = self._begun.setdefault(Kind(start, priority), deque())
            waiting.append(Begun(item, seq, row.digest, row))

    def _called(self, record_id: str | None) -> str:
        return "" if record_id is None else f" ({record_id!r})"

    def _changed(self, how: str) -> InputChangedError:
        return InputChangedError(
            f"input {self._source!r} changed since this run was begun: {how}; {_MEND}"
        )


def places_of_new_items(finished: Finished, number: int) -> Iterator[int]:
    """Yield the places of the items that were let through longest ago."""
    for _ in range(number):
        yield finished.seqs.popleft()
