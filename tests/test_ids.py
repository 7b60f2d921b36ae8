"""Duplicate ids in bounded memory."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sage_dask.ids import SeenIds


def test_ids_seen_for_the_first_time_are_new():
    """A run of distinct ids reports no duplicate, and remembers all of them."""
    seen = SeenIds()

    assert [seen.add([str(n), str(-n - 1)]) for n in range(1000)] == [[]] * 1000
    assert len(seen) == 2000


def test_the_first_of_equal_ids_in_one_call_is_new():
    """Within a call the first occurrence counts and the later ones are told by place."""
    assert SeenIds().add(["a", "b", "a", "a"]) == [2, 3]


@given(st.lists(st.lists(st.integers(0, 60).map(str), max_size=12), max_size=25))
def test_it_agrees_with_a_set(calls):
    """Over any calls, the places reported are those a plain set would report."""
    seen, plain = SeenIds(), set()

    for ids in calls:
        expected = []
        for place, record_id in enumerate(ids):
            if record_id in plain:
                expected.append(place)
            plain.add(record_id)

        assert seen.add(ids) == expected

    assert len(seen) == len(plain)
