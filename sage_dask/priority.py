"""How urgent a record is, by a field of its own.

The scheduler orders tasks, and a task works on a batch: so that a batch has one
priority, records travel with those beside them that have the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import TypeAlias

from sage_dask.plan import READ
from sage_dask.record import Failure, Record, SourceItem
from sage_dask.schedule import finite

# The class under which a record fails whose priority is no number.
PRIORITY_ERROR = "PriorityError"

# What a source yields.
Items: TypeAlias = Iterator[SourceItem | Failure]


def equal_runs(items: Items, field: str | None) -> Iterator[tuple[float, Items]]:
    """Cut a source into runs of neighbours that share a priority, with that priority.

    As with ``groupby``, a run is gone once the next one is asked for, and its end is known
    when the item after it was read.

    Args:
        items: What the source yields.
        field: Field of the priority; None makes one run of priority 0.
    """
    if field is None:
        return iter([(0.0, items)])
    return groupby(items, key=_Priority(field))


def priority_of(record: Record, field: str) -> float | None:
    """Return a record's priority: 0 without the field or with None in it, None for no number."""
    value = record.get(field)
    return 0.0 if value is None else finite(value)


def priority_failure(item: SourceItem, field: str) -> Failure:
    """Return what becomes of a record whose priority is no number."""
    value = item.record[field]
    return Failure(
        item.id,
        READ,
        PRIORITY_ERROR,
        f"field {field!r}, the record's priority, is {value!r:.40} ({type(value).__name__}), and "
        "a finite number is wanted; leave it out for 0",
        record=item.record,
        position=item.position,
    )


class _Priority:
    """The priority of each item in turn; one that has none goes with those before it."""

    def __init__(self, field: str) -> None:
        self._field = field
        self._last = 0.0

    def __call__(self, item: SourceItem | Failure) -> float:
        if isinstance(item, SourceItem):
            own = priority_of(item.record, self._field)
            self._last = self._last if own is None else own
        return self._last
