"""The source as batches: ids checked, bad rows set apart, one batch at a time.

The feed reads only when it is asked, so whoever asks decides how much is in
memory.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from itertools import islice

from sage_dask.batching import BatchSize
from sage_dask.errors import SageError, SourceError
from sage_dask.finished import Begun, Finished, Kind, places_of_new_items
from sage_dask.ids import SeenIds
from sage_dask.intake import Intake, Places
from sage_dask.journal.codec import digest
from sage_dask.plan import READ
from sage_dask.priority import PRIORITY_ERROR, Items, equal_runs, priority_failure, priority_of
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
        finished: What earlier starts of the run are done with, and not to be read again; None
            for a run without a journal.
    """

    def __init__(
        self,
        source: Source,
        size: BatchSize,
        *,
        num_slots: int = 1,
        record_priority: str | None = None,
        finished: Finished | None = None,
    ) -> None:
        self._source = source
        self._size = size
        self._num_slots = num_slots
        self._expected = source.size()
        self._items: Items = iter(source.read())
        self._record_priority = record_priority
        self._seen = SeenIds()
        self._finished = finished
        new = self._items if finished is None else finished.unfinished(self._items, self._seen.add)
        self._runs = equal_runs(new, record_priority)
        self._priority = 0.0
        self._run: Items = iter(())
        self._num_batches = 0
        self._error: SageError | None = None
        self._num_new = 0

    @property
    def expected(self) -> int | None:
        """How many records the source says it has."""
        return self._expected

    @property
    def num_read(self) -> int:
        """How many records were read so far, also those that earlier starts were done with."""
        return self._num_new if self._finished is None else self._finished.num_items

    def next_batch(self) -> Intake | None:
        """Read the next batch; None when the source is exhausted.

        Records that an earlier start had begun come as soon as they are met.

        Raises:
            SourceError: The source broke, rather than one of its rows.  What it gave before
                comes first, as a batch.
            InputChangedError: The source is not what it was when the run was begun.
        """
        size = self._next_size()
        intake = self._next_begun(size)
        if intake is None:
            items = self._take(size)
            # Reading to the next new record, or to the end, may have met some that are begun.
            intake = self._next_new(items) if items else self._next_begun(size)
        if intake is not None:
            self._num_batches += 1
        return intake

    def close(self) -> None:
        """Stop reading, and let the source close its file."""
        close = getattr(self._items, "close", None)
        if close is not None:
            close()

    def _next_size(self) -> int:
        size = self._size.records()
        if self._expected is None or self._size.is_fixed:
            return size
        left = max(self._expected - self.num_read, 0)
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
                self._error = self._source_error(error, len(items))
        if self._error is not None and not items:
            raise self._error
        return items

    def _source_error(self, error: Exception, num_taken: int) -> SageError:
        if isinstance(error, SageError):
            return error
        # With a journal, items count as they are looked at, which is before they are taken.
        num_read = self.num_read + (num_taken if self._finished is None else 0)
        told = SourceError(
            f"source {self._source.name!r} broke after record {num_read}: "
            f"{type(error).__name__}: {error}"
        )
        told.__cause__ = error
        return told

    def _next_begun(self, size: int) -> Intake | None:
        """Return a batch of records that go on where an earlier start left them, if there are."""
        taken = None if self._finished is None else self._finished.take_begun(size)
        return None if taken is None else _begun_batch(self._num_batches, *taken)

    def _next_new(self, items: list[SourceItem | Failure]) -> Intake:
        seqs = (
            [] if self._finished is None else list(places_of_new_items(self._finished, len(items)))
        )
        self._num_new += len(items)
        good, failures, places = self._parted(items, seqs)
        if good:
            sample = [item.record for item in good[:: -(-len(good) // _SIZE_SAMPLE)]]
            self._size.observe_bytes(len(sample), _pickled_bytes(sample))
        batch = Batch(
            self._num_batches,
            [item.id for item in good],
            [item.record for item in good],
            failures,
            priority=self._priority,
        )
        return Intake(batch, places)

    def _parted(
        self, items: list[SourceItem | Failure], seqs: Sequence[int]
    ) -> tuple[list[SourceItem], list[Failure], Places]:
        """Part the records that go on from what is unreadable, repeated or of no priority."""
        refused = self._refused(items)
        good: list[SourceItem] = items  # type: ignore[assignment]  # once the refused are out
        if refused:
            good = [item for place, item in enumerate(good) if place not in refused]
        places = _places(items, seqs, refused) if seqs else Places()
        return good, list(refused.values()), places

    def _refused(self, items: list[SourceItem | Failure]) -> dict[int, Failure]:
        """Return what does not go on, by its place among the items."""
        refused: dict[int, Failure] = {}
        sound: dict[int, SourceItem] = {}
        for place, item in enumerate(items):
            if isinstance(item, Failure):
                refused[place] = item
            else:
                sound[place] = item
        places = list(sound)
        for repeated in self._seen.add([item.id for item in sound.values()]):
            place = places[repeated]
            refused[place] = _duplicate(sound.pop(place))
        field = self._record_priority
        if field is not None:
            for place, item in sound.items():
                if priority_of(item.record, field) is None:
                    refused[place] = priority_failure(item, field)
        return refused


def _places(
    items: Sequence[SourceItem | Failure], seqs: Sequence[int], refused: Mapping[int, Failure]
) -> Places:
    """Return where the items stand, and how to know each of them again."""
    digests = [digest(item.record) if isinstance(item, SourceItem) else b"" for item in items]
    good = [place for place in range(len(items)) if place not in refused]
    return Places(
        [items[place].id for place in good],
        [seqs[place] for place in good],
        [digests[place] for place in good],
        [_own_id(failure) for failure in refused.values()],
        [seqs[place] for place in refused],
        [digests[place] for place in refused],
    )


def _own_id(failure: Failure) -> str | None:
    """Return the id of a row that was refused, where no other record can have it."""
    return failure.id if failure.error == PRIORITY_ERROR else None


def _begun_batch(index: int, kind: Kind, begun: Sequence[Begun]) -> Intake:
    """Return a batch of what the first tasks made of some records in an earlier start."""
    batch = Batch(index, [], [], start=kind.start, priority=kind.priority)
    for each in begun:
        for output_id, record in each.row.outputs:
            batch.ids.append(output_id)
            batch.records.append(record)
            if output_id != each.item.id:
                batch.roots[output_id] = each.item.id
        batch.failures += each.row.failures
        batch.filtered += [each.item.id] * each.row.num_filtered
        batch.num_expanded += each.row.num_expanded
    places = Places(
        [each.item.id for each in begun],
        [each.seq for each in begun],
        [each.digest for each in begun],
    )
    return Intake(batch, places, [each.item.record for each in begun])


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
