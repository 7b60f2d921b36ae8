"""Colours stay with what has them."""

from __future__ import annotations

from sage_dask.dashboard.page.slots import Slots


def test_a_name_keeps_its_number_while_others_come_and_go():
    """A job's line does not change its colour because another job ended."""
    slots = Slots(3)
    first = dict(slots.assign(["a", "b", "c"]))

    second = slots.assign(["c", "d", "b"])

    assert first == {"a": 0, "b": 1, "c": 2}
    assert second == {"c": 2, "b": 1, "d": 0}


def test_names_beyond_the_number_of_slots_get_none():
    """The most important come first."""
    assert set(Slots(2).assign(["a", "b", "c"])) == {"a", "b"}


def test_a_name_that_comes_twice_takes_one_number():
    """Two jobs may have a stage of the same name."""
    assert Slots(3).assign(["embed", "embed", "keep"]) == {"embed": 0, "keep": 1}
