"""Operators around plain functions: one record's error stays its own."""

from __future__ import annotations

import asyncio
import pickle

import pytest

from sage_dask import aio
from sage_dask.operators import Filter, FlatMap, Map, Select
from sage_dask.stage import FieldSet

CLOSED = FieldSet(frozenset({"a", "b"}), is_open=False)


def inverse(record):
    return {"a": 1 / record["a"]}


def of(*values):
    """Return one record per value."""
    return [{"a": value} for value in values]


@pytest.mark.parametrize(
    ("operator", "expected"),
    [
        (Map(inverse), {"a": 0.5}),
        (Filter(lambda record: 1 / record["a"]), {"a": 2}),
        (FlatMap(lambda record: [inverse(record)]), [{"a": 0.5}]),
    ],
    ids=["map", "filter", "flat_map"],
)
def test_a_function_that_raises_fails_its_own_record(operator, expected):
    """The exception takes the place of one outcome, and the neighbours have theirs."""
    before, failed, after = operator.process_batch(of(2, 0, 2))

    assert before == after == expected
    assert isinstance(failed, ZeroDivisionError)


def test_a_filter_drops_what_is_false():
    """Any false value drops the record; the record that stays is the one that came."""
    records = of(0, 1, "", "x")

    outcomes = Filter(lambda record: record["a"]).process_batch(records)

    assert outcomes == [None, {"a": 1}, None, {"a": "x"}]
    assert outcomes[1] is records[1]


def test_a_flat_map_takes_all_that_is_yielded():
    """A generator is read to its end, and an error on the way fails the whole record."""

    def parts(record):
        for n in range(3):
            yield {"n": n / record["a"]}

    several, failed = FlatMap(parts).process_batch(of(1, 0))

    assert several == [{"n": 0.0}, {"n": 1.0}, {"n": 2.0}]
    assert isinstance(failed, ZeroDivisionError)


def test_a_flat_map_of_nothing_drops_the_record():
    """No part at all is an empty list, which drops the record."""
    assert FlatMap(lambda record: ()).process_batch(of(1)) == [[]]


@pytest.mark.parametrize("returned", [None, 5, "text", [{"a": 1}]])
def test_a_map_must_return_a_record(returned):
    """A forgotten return is an error with the function's name, never a dropped record."""

    def forgetful(record):
        return returned

    (outcome,) = Map(forgetful).process_batch(of(1))

    assert isinstance(outcome, TypeError)
    assert "forgetful' returned " in str(outcome)
    assert "use .filter() to drop and .flat_map() to expand" in str(outcome)


def test_an_async_map_waits_for_all_records_together():
    """Every call starts before the first one ends; one that raises fails its record."""
    arrived = []

    async def meet(record):
        arrived.append(record["a"])
        while len(arrived) < 3:  # Ends only if all three calls are on their way.
            await asyncio.sleep(0)
        return {"a": 1 / record["a"]}

    first, failed, third = aio.run(Map(meet).process_batch(of(1, 0, 2)))

    assert (first, third) == ({"a": 1.0}, {"a": 0.5})
    assert isinstance(failed, ZeroDivisionError)


def test_only_coroutine_functions_wait():
    """The planner is told which maps compute and which ones wait."""

    async def wait(record):
        return record

    assert Map(wait).is_async
    assert not Map(inverse).is_async


def test_select_keeps_the_named_fields_in_their_order():
    """Other fields go, and a record that lacks one fails."""
    kept, failed = Select(["b", "a"]).process_batch([{"a": 1, "b": 2, "c": 3}, {"a": 1}])

    assert list(kept.items()) == [("b", 2), ("a", 1)]
    assert isinstance(failed, KeyError)


def test_what_operators_do_to_the_known_fields():
    """A filter keeps them, a map may add any, a select leaves exactly its own."""
    assert Filter(bool).fields_after(CLOSED) == CLOSED
    assert Map(dict).fields_after(CLOSED).is_open
    assert Map(dict, writes=["c"]).fields_after(CLOSED) == CLOSED | ["c"]
    assert FlatMap(list, writes=["c"]).fields_after(CLOSED) == CLOSED | ["c"]
    assert Select(["a"]).fields_after(CLOSED) == FieldSet(frozenset({"a"}), is_open=False)
    assert Select("a").reads == ("a",)


@pytest.mark.parametrize("kind", [Map, Filter, FlatMap])
def test_names_are_told_alike_however_they_are_given(kind):
    """A single name, a list and a tuple declare the same operator; none is split into letters."""
    assert kind(dict, reads="name").reads == ("name",)
    assert kind(dict, reads=["name"]) == kind(dict, reads=("name",))


def test_a_declared_operator_travels():
    """A function of a module goes by its name, and comes back as the same operator."""
    operator = Map(dict, reads=("a",), writes=("b",))

    assert pickle.loads(pickle.dumps(operator)) == operator
