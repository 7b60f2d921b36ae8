"""The source as batches."""

from __future__ import annotations

import pytest

from sage_dask.batching import BatchSize
from sage_dask.errors import SourceError
from sage_dask.feed import Feed
from sage_dask.operators.sources import FromIterable
from sage_dask.plan import Batching
from sage_dask.record import Failure, Position, SourceItem
from sage_dask.stage import Source


class Scripted(Source):
    """Yields what it is given, and raises what is an exception."""

    def __init__(self, *items):
        self.items = items

    def read(self):
        for item in self.items:
            if isinstance(item, Exception):
                raise item
            yield item


def batches(source, size=2, **options):
    """Return all batches of a source."""
    feed = Feed(source, BatchSize(Batching(fixed=size)), **options)
    return [intake.batch for intake in iter(feed.next_batch, None)]


def test_batches_keep_the_order_of_reading():
    """Five records at two per batch make batches 0, 1 and 2 of two, two and one."""
    made = batches(FromIterable([{"x": n} for n in range(5)]))

    assert [batch.index for batch in made] == [0, 1, 2]
    assert [record["x"] for batch in made for record in batch.records] == [0, 1, 2, 3, 4]


def test_an_empty_source_has_no_batch():
    """Nothing to read is no batch, rather than an empty one."""
    assert batches(FromIterable([])) == []


def test_a_repeated_id_fails_the_later_record():
    """The first record of an id goes on; the second is a failure with its line."""
    source = Scripted(
        SourceItem("a", {"x": 1}, Position(1, 0)),
        SourceItem("b", {"x": 2}, Position(2, 9)),
        SourceItem("a", {"x": 3}, Position(3, 18)),
    )

    first, second = batches(source)

    assert first.ids == ["a", "b"]
    assert second.ids == []
    (failure,) = second.failures
    assert (failure.id, failure.error) == ("a", "DuplicateIdError")
    assert (failure.position, failure.record) == (Position(3, 18), {"x": 3})


def test_unreadable_rows_travel_as_failures():
    """A row that the source could not read counts as read, and as failed."""
    bad = Failure("line-2", "read", "JSONDecodeError", "no")

    (batch,) = batches(Scripted(SourceItem("a", {}), bad))

    assert (batch.ids, batch.failures, batch.num_read) == (["a"], [bad], 2)


def test_a_source_that_breaks_says_how_far_it_came():
    """An exception of the source itself ends the run, with the number of records before it."""
    source = Scripted(SourceItem("a", {}), SourceItem("b", {}), OSError("cable pulled"))

    with pytest.raises(SourceError, match="broke after record 2: OSError: cable pulled"):
        batches(source)


def test_batches_shrink_to_half_near_a_known_end():
    """Of 100 records over four slots, the last batches are smaller, so that all slots get some."""
    feed = Feed(FromIterable(range(100)), BatchSize(Batching(first=16)), num_slots=4)

    sizes = [len(intake.batch) for intake in iter(feed.next_batch, None)]

    assert sizes == [13, 11, 10, 9, 8, 8, 8, 8, 8, 8, 8, 1]


def test_a_size_chosen_by_the_user_does_not_shrink():
    """With a fixed size only the last batch is smaller, by what is left."""
    sizes = [len(batch) for batch in batches(FromIterable(range(100)), size=30, num_slots=4)]

    assert sizes == [30, 30, 30, 10]


def test_a_reader_that_stops_early_closes_the_source():
    """A run that ends before its input lets the source close its file."""
    log = []

    class Open(Source):
        def read(self):
            try:
                yield SourceItem("a", {})
                yield SourceItem("b", {})
            finally:
                log.append("closed")

    feed = Feed(Open(), BatchSize(Batching(fixed=1)))
    feed.next_batch()

    feed.close()

    assert log == ["closed"]


def urgent(*priorities):
    """Return a source of records "0", "1", ... with these priorities; None leaves the field out."""
    return Scripted(
        *(
            SourceItem(str(number), {} if priority is None else {"p": priority})
            for number, priority in enumerate(priorities)
        )
    )


def test_a_batch_holds_records_of_one_priority():
    """A batch ends where the next priority differs, and where it is full; the order stays."""
    made = batches(urgent(1, 1, 1, 5, None, 0, 1), record_priority="p")

    assert [(batch.priority, batch.ids) for batch in made] == [
        (1.0, ["0", "1"]),
        (1.0, ["2"]),
        (5.0, ["3"]),
        (0.0, ["4", "5"]),
        (1.0, ["6"]),
    ]
    assert [batch.index for batch in made] == [0, 1, 2, 3, 4]


def test_without_a_field_priorities_are_data():
    """Nothing is cut, and nothing fails, where no field was named."""
    made = batches(urgent(1, "high", 5), size=3)

    assert [(batch.priority, batch.ids) for batch in made] == [(0.0, ["0", "1", "2"])]


def test_a_record_whose_priority_is_no_number_fails():
    """It is told like an unreadable row, counts as read, and parts no batch."""
    (batch,) = batches(urgent(2, "high", 2), size=3, record_priority="p")

    assert (batch.ids, batch.priority, batch.num_read) == (["0", "2"], 2.0, 3)
    (failure,) = batch.failures
    assert (failure.id, failure.stage, failure.error) == ("1", "read", "PriorityError")
    assert "'high' (str), and a finite number is wanted" in failure.message


def test_an_id_whose_first_record_failed_is_still_taken():
    """A later record of the same id is a repetition, so no id is both failed and written."""
    source = Scripted(SourceItem("a", {"p": "high"}), SourceItem("a", {"p": 1}))

    (first, second) = batches(source, record_priority="p")

    assert (first.ids, second.ids) == ([], [])
    errors = [failure.error for batch in (first, second) for failure in batch.failures]
    assert errors == ["PriorityError", "DuplicateIdError"]


def test_a_source_that_breaks_loses_no_record_to_the_look_ahead():
    """The record that was read to see its priority comes first, then the error."""
    source = Scripted(SourceItem("a", {"p": 1}), SourceItem("b", {"p": 2}), OSError("cable pulled"))
    feed = Feed(source, BatchSize(Batching(fixed=9)), record_priority="p")

    ids = [feed.next_batch().batch.ids, feed.next_batch().batch.ids]

    assert ids == [["a"], ["b"]]
    with pytest.raises(SourceError, match="broke after record 2: OSError: cable pulled"):
        feed.next_batch()


def test_every_record_is_counted_once_whatever_its_priority():
    """The look-ahead changes neither the number read nor the end."""
    feed = Feed(urgent(*range(5)), BatchSize(Batching(fixed=3)), record_priority="p")

    sizes = [len(intake.batch) for intake in iter(feed.next_batch, None)]

    assert (sizes, feed.num_read, feed.next_batch()) == ([1] * 5, 5, None)
