"""Where what is done stands in an input that has grown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sage_dask.durable.extending import new_places
from sage_dask.finished import InputChangedError
from sage_dask.journal.entries import Mark
from sage_dask.operators.sources import FromIterable
from sage_dask.record import Failure, SourceItem
from sage_dask.stage import Source


def source(ids):
    """Return a source of records of these ids."""
    return FromIterable([{"id": each} for each in ids], id="id")


def marks(*ids):
    """Return marks of records that stood in this order."""
    return [Mark(seq, each, b"", False) for seq, each in enumerate(ids)]


@given(st.lists(st.integers(0, 99), unique=True, max_size=20), st.data())
def test_each_record_that_is_done_is_found_wherever_it_stands(new, data):
    """Old and new place belong to the same id, for any old input that the new one holds."""
    old = data.draw(st.lists(st.sampled_from(new), unique=True) if new else st.just([]))

    places = new_places(source(new), marks(*map(str, old)))

    assert sorted(places) == sorted((seq, new.index(each)) for seq, each in enumerate(old))


def test_rows_that_never_became_records_have_no_place():
    """An unreadable row is not looked for, and is no reason to refuse."""

    class Rows(Source):
        def read(self):
            yield Failure("a", "read", "JSONDecodeError", "no")
            yield SourceItem("a", {})

    assert new_places(Rows(), [Mark(0, None, b"", True), Mark(3, "a", b"", False)]) == [(3, 1)]


def test_a_repeated_id_keeps_the_place_of_its_first_record():
    """Only the first record of an id was done; a later one of it is a duplicate."""
    assert new_places(source(["x", "a", "a"]), marks("a")) == [(0, 1)]


def test_records_that_are_gone_are_refused():
    """Their number is told, and the first of them in their order, with what to do."""
    with pytest.raises(InputChangedError, match=r"7 records that are done are not in it") as told:
        new_places(source(["a"]), marks("a", *"hgfedcb"))

    assert "'d', 'e', 'f', 'g', 'h'; put them back, or give another run_dir" in str(told.value)
