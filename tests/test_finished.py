"""What is done, begun and new, as an input is read again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sage_dask.errors import PlanError
from sage_dask.finished import Finished, InputChangedError, places_of_new_items
from sage_dask.journal.codec import digest
from sage_dask.journal.entries import Mark
from sage_dask.journal.rows import Row
from sage_dask.record import Failure, SourceItem


def item(n):
    """Return the record of a place."""
    return SourceItem(f"id{n}", {"x": n})


def mark(n, **changes):
    """Return the mark of that record, done."""
    return Mark(n, f"id{n}", digest({"x": n}), False)._replace(**changes)


def memo(n, start=1, outputs=None):
    """Return the memo of that record, begun: one task done."""
    outputs = [(f"id{n}", {"y": n})] if outputs is None else outputs
    return start, Row(n, f"id{n}", digest({"x": n}), outputs)


def ignore(ids):
    """Remember no ids."""


def read(finished, items, remember=ignore):
    """Return the items that are new."""
    return list(finished.unfinished(iter(items), remember))


@given(st.integers(0, 30), st.data())
def test_exactly_what_is_not_done_comes_in_the_order_of_reading(count, data):
    """Whichever places are done, the others come, each with its place, and all are counted."""
    done = data.draw(st.sets(st.integers(0, max(0, count - 1)), max_size=count))
    done = {n for n in done if n < count}
    finished = Finished("in", [mark(n) for n in sorted(done)])

    new = read(finished, [item(n) for n in range(count)])

    left = [n for n in range(count) if n not in done]
    assert new == [item(n) for n in left]
    assert list(places_of_new_items(finished, len(new))) == left
    assert (finished.num_items, finished.num_done) == (count, len(done))


@given(st.lists(st.sampled_from(["done", "begun", "new"]), max_size=30))
def test_every_item_is_done_or_begun_or_new(fates):
    """Each place is handed out once, as what it is, and in its order."""
    places = {fate: [n for n, f in enumerate(fates) if f == fate] for fate in set(fates)}
    begun = {n: memo(n, start=1 + n % 2) for n in places.get("begun", [])}
    finished = Finished("in", [mark(n) for n in places.get("done", [])], begun)

    new = read(finished, [item(n) for n in range(len(fates))])
    taken = []
    while batch := finished.take_begun(3):
        taken += [(batch[0].start, each.seq, each.item) for each in batch[1]]

    assert new == [item(n) for n in places.get("new", [])]
    assert sorted(taken, key=lambda each: each[1]) == [
        (1 + n % 2, n, item(n)) for n in places.get("begun", [])
    ]


def test_begun_records_are_taken_by_how_far_they_are_and_no_more_than_asked():
    """A batch holds only records that passed equally many tasks."""
    finished = Finished("in", (), {0: memo(0), 1: memo(1, start=2), 2: memo(2), 3: memo(3)})
    read(finished, [item(n) for n in range(4)])

    taken = [finished.take_begun(2) for _ in range(3)]

    assert [(kind.start, [each.seq for each in begun]) for kind, begun in taken] == [
        (1, [0, 2]),
        (1, [3]),
        (2, [1]),
    ]
    assert finished.take_begun(2) is None


def test_begun_records_of_another_priority_travel_apart():
    """They go on as urgently as they began."""
    items = [SourceItem("a", {"p": 3}), SourceItem("b", {}), SourceItem("c", {"p": 3})]
    memos = {n: (1, Row(n, each.id, digest(each.record))) for n, each in enumerate(items)}
    finished = Finished("in", (), memos, record_priority="p")
    read(finished, items)

    taken = [finished.take_begun(9) for _ in range(2)]

    assert [(kind.priority, [each.item.id for each in begun]) for kind, begun in taken] == [
        (3.0, ["a", "c"]),
        (0.0, ["b"]),
    ]


def test_ids_are_remembered_before_any_later_item_is_yielded():
    """Whoever takes an item has been told of all ids before it, so that it can be a repetition."""
    told = []
    finished = Finished("in", [mark(0), mark(3)], {1: memo(1)})

    log = [
        (each.id, list(told))
        for each in finished.unfinished(iter([item(n) for n in range(5)]), told.extend)
    ]

    assert log == [("id2", ["id0", "id1"]), ("id4", ["id0", "id1", "id3"])]


def test_ids_at_the_end_are_remembered_as_well():
    """An input that is done to its end leaves no id untold, and none is told twice."""
    told = []
    finished = Finished("in", [mark(n) for n in range(3000)])

    assert read(finished, [item(n) for n in range(3000)], told.extend) == []
    assert told == [f"id{n}" for n in range(3000)]


def test_rows_that_were_refused_are_done_and_take_no_id():
    """An unreadable row, and a record of an id that was there before, need not come again."""
    unreadable = Mark(1, None, b"", True)
    repeated = Mark(2, None, digest({"x": 0}), True)
    told = []
    finished = Finished("in", [mark(0), unreadable, repeated])
    items = [item(0), Failure("line-2", "read", "JSONDecodeError", "no"), item(0), item(3)]

    new = read(finished, items, told.extend)

    assert new == [item(3)]
    assert told == ["id0"]


@pytest.mark.parametrize(
    ("marks", "items", "message"),
    [
        ([mark(0)], [SourceItem("id0", {"x": 7})], "record 'id0', is not what it was"),
        ([mark(1)], [item(0), item(2)], r"row 2 is 'id2'.*\('id1'\) is another"),
        ([mark(0)], [Failure("line-1", "read", "E", "no")], r"row 1 is 'line-1'.*\('id0'\)"),
        ([Mark(0, None, b"", True)], [item(0)], "row 1 is 'id0', and what was done there is"),
        ([Mark(0, None, digest({"x": 1}), True)], [item(0)], "row 1 is 'id0'"),
        (
            [Mark(0, None, digest({"x": 1}), True)],
            [Failure("line-1", "read", "E", "no")],
            "row 1 is 'line-1'",
        ),
        ([mark(4)], [item(0), item(1)], r"ends after 2 rows, and row 5 \('id4'\) was done"),
        ([Mark(1, None, b"", True)], [item(0)], "ends after 1 rows, and row 2 was done"),
    ],
)
def test_another_input_is_refused_with_what_is_different(marks, items, message):
    """A record, a row or the length that is not as it was is named, and what to do."""
    finished = Finished("in.jsonl", marks)

    with pytest.raises(InputChangedError, match=message) as told:
        read(finished, items)

    assert str(told.value).startswith("input 'in.jsonl' changed since this run was begun: ")
    assert "--extend" in str(told.value)
    assert isinstance(told.value, PlanError)


def test_a_begun_record_that_changed_is_refused():
    """What a costly stage made of another record is not taken for this one's."""
    finished = Finished("in", (), {0: memo(0)})

    with pytest.raises(InputChangedError, match="record 'id0', is not what it was"):
        read(finished, [SourceItem("id0", {"x": 9})])


def test_an_input_that_grew_is_refused_where_its_end_was_known():
    """Rows behind the old end are named by their number; everything before them comes."""
    finished = Finished("in", [mark(0)], num_items=2)
    seen = []

    with pytest.raises(InputChangedError, match="it had 2 rows, and has more"):
        seen += (each.id for each in finished.unfinished(iter([item(n) for n in range(4)]), ignore))

    assert finished.num_items == 3


def test_an_input_may_grow_while_its_end_was_never_read():
    """A run that was stopped before the end knows nothing of the end."""
    finished = Finished("in", [mark(0)])

    assert read(finished, [item(n) for n in range(4)]) == [item(1), item(2), item(3)]


def test_a_begun_record_that_is_not_there_any_more_is_missed():
    """What was begun at the end of the input does not vanish with its line."""
    finished = Finished("in", [mark(0)], {2: memo(2)})

    with pytest.raises(
        InputChangedError, match=r"ends after 2 rows, and row 3 \('id2'\) was begun"
    ):
        read(finished, [item(0), item(1)])
