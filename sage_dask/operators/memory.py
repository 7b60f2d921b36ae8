"""Records that are in the program already, and records that shall stay in it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass, field
from typing import Any

from sage_dask.errors import SourceError
from sage_dask.operators.files.rows import RowError, row_failure, row_id
from sage_dask.operators.files.source import Rows, peek_fields
from sage_dask.record import Failure, Position, Record, SourceItem
from sage_dask.stage import FieldSet, Sink, Source


@dataclass
class FromIterable(Source):
    """Read records from a collection, an iterator, or a function that returns either.

    A mapping is copied; any other item becomes ``{"value": item}``.

    >>> [item.record for item in FromIterable(["a", {"text": "b"}]).read()]
    [{'value': 'a'}, {'text': 'b'}]

    Args:
        items: What to read.  An iterator can be read only once; a function is called for
            each reading, and once more to look at the fields.
        id: Field that holds each item's id, a text or a whole number.  None numbers the
            items from 1.
    """

    items: Iterable[Any] | Callable[[], Iterable[Any]]
    id: str | None = None
    _is_spent: bool = field(init=False, repr=False, compare=False, default=False)

    def check(self) -> None:
        """Raise ``SourceError`` for what is one item, not many, or was read before."""
        if isinstance(self.items, str | bytes | Mapping):
            raise SourceError(
                f"FromIterable was given one {type(self.items).__name__}, whose parts are hardly "
                "records; put it in a list"
            )
        if not isinstance(self.items, Iterable) and not callable(self.items):
            raise SourceError(
                f"FromIterable was given {type(self.items).__name__}, which can not be iterated; "
                "give a list, an iterator, or a function that returns one"
            )
        if self._is_spent:
            raise SourceError(
                f"FromIterable was given {type(self.items).__name__}, which can be read only once "
                "and was; give a list, or the function that makes the iterator"
            )

    def known_fields(self) -> FieldSet:
        """Return the fields of the first hundred items; unknown for an iterator."""
        return FieldSet() if isinstance(self.items, Iterator) else peek_fields(self.read())

    def size(self) -> int | None:
        """Return the number of items, for a collection."""
        return len(self.items) if isinstance(self.items, Sized) else None

    def read(self) -> Rows:
        """Yield a record, or a failure, for each item."""
        self.check()
        self._is_spent = isinstance(self.items, Iterator)
        number = 0
        try:
            items = iter(self.items() if callable(self.items) else self.items)
            for number, item in enumerate(items, 1):
                yield self._item(item, number)
        except Exception as error:
            raise SourceError(
                f"FromIterable: {type(self.items).__name__} raised {type(error).__name__} after "
                f"{number} items: {error}; mend what makes the items"
            ) from error

    def _item(self, item: Any, number: int) -> SourceItem | Failure:
        position = Position(number)
        record = dict(item) if isinstance(item, Mapping) else {"value": item}
        if self.id is None:
            return SourceItem(str(number), record, position)
        try:
            return SourceItem(row_id(record, self.id), record, position)
        except RowError as error:
            return row_failure(error, f"item-{number}", position, repr(item))


@dataclass
class Collect(Sink):
    """Keep everything in memory, in the order of the output.

    Attributes:
        ids: One id per record.
        records: The records; none is given an ``id`` field.
        failures: Whatever did not become a record.
    """

    ids: list[str] = field(init=False, repr=False, compare=False, default_factory=list)
    records: list[Record] = field(init=False, repr=False, compare=False, default_factory=list)
    failures: list[Failure] = field(init=False, repr=False, compare=False, default_factory=list)

    def open(self) -> None:
        """Forget an earlier run; its lists stay whole for whoever holds them."""
        self.ids, self.records, self.failures = [], [], []

    def write(self, ids: Sequence[str], records: Sequence[Record]) -> Sequence[Failure]:
        """Keep records."""
        self.ids += ids
        self.records += records
        return ()

    def write_failures(self, failures: Sequence[Failure]) -> None:
        """Keep failures."""
        self.failures += failures

    def abort(self) -> str:
        """Say what is there."""
        return f"{len(self.records)} records and {len(self.failures)} failures are in memory"
