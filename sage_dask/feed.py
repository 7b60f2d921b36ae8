"""The source as batches: ids checked, bad rows set apart, one batch at a time.

The feed reads only when it is asked, so whoever asks decides how much is in
memory.
"""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from itertools import islice

from sage_dask.batching import BatchSize
from sage_dask.errors import SageError, SourceError
from sage_dask.ids import SeenIds
from sage_dask.plan import READ
from sage_dask.priority import Items, equal_runs, priority_failure, priority_of
from sage_dask.record import Batch, Failure, SourceItem
from sage_dask.stage import Source

# The last batches are no smaller than half a full one: a tail of half a task's time costs
# less than the many small tasks that would avoid it.
_LEAST_SHARE = 2

# Records of one batch that are pickled to learn how large records are.
_SIZE_SAMPLE = 4


class Feed:
    """Batches of a source, in the order of reading.

    Args:
        source: Read once, from its beginning.
        size: Asked for the size of each batch.
        num_slots: Tasks that can run at once.  Near the end of a source of known length
            batches shrink so that every slot still gets its share.
        record_priority: Field that holds a record's priority.  A batch ends where the next
            record's differs, so records of mixed priorities make small batches.
    """

    def __init__(
        self,
        source: Source,
        size: BatchSize,
        *,
        num_slots: int = 1,
        record_priority: str | None = None,
    ) -> None:
        self._source = source
        self._size = size
        self._num_slots = num_slots
        self._expected = source.size()
        self._items: Items = iter(source.read())
        self._record_priority = record_priority
        self._runs = equal_runs(self._items, record_priority)
        self._priority = 0.0
        self._run: Items = iter(())
        self._seen = SeenIds()
        self._num_batches = 0
        self._error: SageError | None = None
        self.num_read = 0

    @property
    def expected(self) -> int | None:
        """How many records the source says it has."""
        return self._expected

    def next_batch(self) -> Batch | None:
        """Read the next batch; None when the source is exhausted.

        Raises:
            SourceError: The source broke, rather than one of its rows.  What it gave before
                comes first, as a batch.
        """
        items = self._take(self._next_size())
        if not items:
            return None
        batch = self._batch_of(items)
        self._num_batches += 1
        self.num_read += len(items)
        return batch

    def close(self) -> None:
        """Stop reading, and let the source close its file."""
        close = getattr(self._items, "close", None)
        if close is not None:
            close()

    def _next_size(self) -> int:
        size = self._size.records()
        if self._expected is None or self._size.is_fixed:
            return size
        left = self._expected - self.num_read
        return min(size, max(-(-left // (2 * self._num_slots)), size // _LEAST_SHARE, 1))

    def _take(self, size: int) -> list[SourceItem | Failure]:
        items: list[SourceItem | Failure] = []
        if self._error is None:
            try:
                # Unlike list(), extend() keeps what was read before an error.
                items.extend(islice(self._run, size))
                if not items and (run := next(self._runs, None)) is not None:
                    self._priority, self._run = run
                    items.extend(islice(self._run, size))
            except Exception as error:
                self._error = self._source_error(error, self.num_read + len(items))
        if self._error is not None and not items:
            raise self._error
        return items

    def _source_error(self, error: Exception, num_read: int) -> SageError:
        if isinstance(error, SageError):
            return error
        told = SourceError(
            f"source {self._source.name!r} broke after record {num_read}: "
            f"{type(error).__name__}: {error}"
        )
        told.__cause__ = error
        return told

    def _batch_of(self, items: list[SourceItem | Failure]) -> Batch:
        good, failures = self._parted(items)
        if good:
            sample = [item.record for item in good[:: -(-len(good) // _SIZE_SAMPLE)]]
            self._size.observe_bytes(len(sample), _pickled_bytes(sample))
        return Batch(
            self._num_batches,
            [item.id for item in good],
            [item.record for item in good],
            failures,
            priority=self._priority,
        )

    def _parted(self, items: list[SourceItem | Failure]) -> tuple[list[SourceItem], list[Failure]]:
        """Part the records that go on from what is unreadable, repeated or of no priority."""
        if set(map(type, items)) == {SourceItem}:
            failures = []
            good: list[SourceItem] = items  # type: ignore[assignment]  # just checked
        else:
            failures = [item for item in items if isinstance(item, Failure)]
            good = [item for item in items if isinstance(item, SourceItem)]
        repeated = self._seen.add([item.id for item in good])
        if repeated:
            places = set(repeated)
            failures += [_duplicate(good[place]) for place in repeated]
            good = [item for place, item in enumerate(good) if place not in places]
        if self._record_priority is not None:
            good, odd = _by_priority(good, self._record_priority)
            failures += odd
        return good, failures


def _by_priority(items: Sequence[SourceItem], field: str) -> tuple[list[SourceItem], list[Failure]]:
    """Part the items that have a priority from those in whose place there is no number."""
    good, odd = [], []
    for item in items:
        if priority_of(item.record, field) is None:
            odd.append(priority_failure(item, field))
        else:
            good.append(item)
    return good, odd


def _duplicate(item: SourceItem) -> Failure:
    return Failure(
        item.id,
        READ,
        "DuplicateIdError",
        f"id {item.id!r} was read before; ids must be unique, so only the first record "
        "of this id is processed",
        record=item.record,
        position=item.position,
    )


def _pickled_bytes(sample: object) -> int:
    """Return the pickled size, or 0 for what only cloudpickle can take."""
    try:
        return len(pickle.dumps(sample, protocol=5))
    except Exception:
        return 0
