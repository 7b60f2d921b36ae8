"""Records from the program and back into it."""

from __future__ import annotations

from collections.abc import Iterator
from types import MappingProxyType

import pytest

from sage_dask.errors import SourceError
from sage_dask.operators.memory import Collect, FromIterable
from sage_dask.record import Failure, Position, SourceItem
from sage_dask.stage import FieldSet


def numbers() -> Iterator[int]:
    yield from range(3)


def test_mappings_are_copied_and_other_items_wrapped():
    """A stage can not change the caller's data, and any item becomes a record."""
    mine = {"a": 1}

    items = list(FromIterable([mine, MappingProxyType({"b": 2}), "text", 5]).read())

    assert [item.id for item in items] == ["1", "2", "3", "4"]
    assert [item.record for item in items] == [{"a": 1}, {"b": 2}, {"value": "text"}, {"value": 5}]
    assert items[0].record is not mine
    assert items[3].position == Position(4)


def test_an_item_without_its_id_fails_alone():
    """The failure shows the item, and the others are read."""
    items = list(FromIterable([{"key": 7}, {"b": 1}, {"key": "x"}], id="key").read())

    assert [item.id for item in items] == ["7", "item-2", "x"]
    failure = items[1]
    assert isinstance(failure, Failure)
    assert (failure.stage, failure.error) == ("read", "BadIdError")
    assert failure.record == {"raw": "{'b': 1}"}


def test_an_iterator_can_be_read_once():
    """The second reading is refused before it could pass for an empty input."""
    source = FromIterable(numbers())

    assert source.known_fields() == FieldSet()
    assert len(list(source.read())) == 3
    with pytest.raises(SourceError, match="generator, which can be read only once"):
        next(source.read())
    with pytest.raises(SourceError, match="only once"):
        source.check()


@pytest.mark.parametrize("items", [numbers, [0, 1, 2], range(3)])
def test_functions_and_collections_can_be_read_again(items: object):
    """Looking at the fields does not use them up either."""
    source = FromIterable(items)

    fields = source.known_fields()

    assert fields == FieldSet(frozenset({"value"}), is_open=False)
    assert list(source.read()) == list(source.read())
    assert len(list(source.read())) == 3


def test_the_size_is_known_for_collections_only():
    """Counting an iterator would use it up."""
    assert FromIterable([1, 2]).size() == 2
    assert FromIterable(numbers()).size() is None
    assert FromIterable(numbers).size() is None


@pytest.mark.parametrize("items", ["abc", b"abc", {"a": 1}, 5])
def test_one_thing_is_not_many(items: object):
    """Text, bytes and a mapping iterate over what nobody means as records."""
    with pytest.raises(SourceError, match=f"given (one )?{type(items).__name__}"):
        FromIterable(items).check()


def test_an_iterator_that_raises_ends_the_reading():
    """The message says after how many items, and keeps the cause."""

    def broken() -> Iterator[int]:
        yield 1
        raise KeyError("gone")

    source = FromIterable(broken).read()
    next(source)

    with pytest.raises(SourceError, match="raised KeyError after 1 items") as raised:
        next(source)
    assert isinstance(raised.value.__cause__, KeyError)


def test_collect_keeps_what_it_is_given():
    """Records come out as they went in, beside their ids."""
    sink = Collect()
    sink.open()

    failures = sink.write(["a"], [{"x": 1}])
    sink.write_failures([Failure("b", "embed", "ValueError", "empty")])
    sink.close()

    assert not failures
    assert (sink.ids, sink.records) == (["a"], [{"x": 1}])
    assert [failure.id for failure in sink.failures] == ["b"]
    assert sink.abort() == "1 records and 1 failures are in memory"


def test_collect_forgets_the_earlier_run_when_opened():
    """The lists of that run stay whole for whoever holds them."""
    sink = Collect()
    sink.write(["a"], [{}])
    earlier = sink.ids

    sink.open()

    assert (sink.ids, sink.records, sink.failures) == ([], [], [])
    assert earlier == ["a"]
    assert isinstance(next(FromIterable([1]).read()), SourceItem)
