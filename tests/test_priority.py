"""How urgent records are."""

from __future__ import annotations

from itertools import islice

import pytest

from sage_dask.priority import equal_runs, priority_failure, priority_of
from sage_dask.record import Failure, Position, SourceItem

BAD = Failure("bad", "read", "JSONDecodeError", "no")


def item(number, **record):
    """Return a record called by its number."""
    return SourceItem(str(number), record)


def runs(items, field="p"):
    """Return each run as its priority and the ids in it."""
    return [(priority, [one.id for one in run]) for priority, run in equal_runs(iter(items), field)]


def test_neighbours_of_equal_priority_make_a_run():
    """The order stays; a priority that comes again begins another run."""
    items = [item(n, p=p) for n, p in enumerate([1, 1.0, 5, 1, 1])]

    assert runs(items) == [(1.0, ["0", "1"]), (5.0, ["2"]), (1.0, ["3", "4"])]


def test_a_record_without_priority_has_zero():
    """An absent field and None, which is how a table says absent, are the same."""
    items = [item(0), item(1, p=0), item(2, p=None), item(3, p=-1)]

    assert runs(items) == [(0.0, ["0", "1", "2"]), (-1.0, ["3"])]


def test_what_has_no_priority_ends_no_run():
    """An unreadable row and a record with a text there go with those before them."""
    items = [BAD, item(1, p=2), BAD, item(2, p="high"), item(3, p=2), item(4, p=0), BAD]

    assert runs(items) == [(0.0, ["bad"]), (2.0, ["1", "bad", "2", "3"]), (0.0, ["4", "bad"])]


def test_without_a_field_all_is_one_run():
    """Nothing is read ahead, and the field of some name means nothing."""
    items = iter([item(0, p=1), item(1, p=2)])

    ((priority, run),) = equal_runs(items, None)

    assert priority == 0.0
    assert [one.id for one in islice(run, 1)] == ["0"]
    assert next(items).id == "1"


def test_a_run_is_read_no_further_than_it_is_asked():
    """Records in the middle of a run stay unread until they are wanted."""
    items = iter([item(n, p=1) for n in range(5)])
    _, run = next(equal_runs(items, "p"))

    taken = list(islice(run, 2))

    assert (len(taken), len(list(items))) == (2, 3)


@pytest.mark.parametrize("value", ["5", True, float("nan"), [1]])
def test_what_is_no_number_fails_its_record(value):
    """The failure tells field, value and kind, and keeps the record and its place."""
    record = {"p": value}
    position = Position(7, 70)

    failure = priority_failure(SourceItem("a", record, position), "p")

    assert priority_of(record, "p") is None
    assert (failure.id, failure.stage, failure.error) == ("a", "read", "PriorityError")
    assert failure.message.startswith(
        f"field 'p', the record's priority, is {value!r} ({type(value).__name__}), and a finite"
    )
    assert (failure.record, failure.position) == (record, position)


def test_a_long_value_is_cut_in_the_message():
    """A page of text in place of a number does not fill the failed file twice."""
    failure = priority_failure(item(0, p="x" * 1000), "p")

    assert len(failure.message) < 200
