"""Marks in memory: the first stays, and all that a dict of marks would do."""

from __future__ import annotations

import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from sage_dask.journal.entries import Mark
from sage_dask.journal.entry_index import EntryIndex

_PLACES = st.sampled_from([0, 1, 2, 3, 255, 256, 511, 512, 10**12])
_MARKS = st.builds(
    Mark,
    _PLACES,
    st.none() | st.text(st.characters(codec=None), max_size=3) | st.sampled_from("abc"),
    st.sampled_from([b"", b"\xff" * 8, b"\xfe\0aaaaaa", b"z" * 255]),
    st.booleans(),
)
_STEPS = st.lists(
    st.tuples(st.just("add"), _MARKS)
    | st.tuples(st.just("remove"), _PLACES)
    | st.tuples(st.just("exchange"), st.tuples(_PLACES, _PLACES)),
    max_size=30,
)


@given(_STEPS)
def test_an_index_agrees_with_a_dict(steps):
    """Any adding, removing and exchanging leaves the marks and locations that a dict would."""
    index, held = EntryIndex(), {}

    for number, (action, what) in enumerate(steps, 1):
        if action == "add":
            ids = {mark.id for mark, _ in held.values()} - {None}
            is_new = what.seq not in held and what.id not in ids
            assert index.add(what, number) is is_new
            if is_new:
                held[what.seq] = (what, number)
        elif action == "remove":
            index.remove(what)
            held.pop(what, None)
        else:
            one, other = what
            moves = {one: other, other: one}
            index.renumber(moves.items())
            held = {moves.get(seq, seq): found for seq, found in held.items()}
            held = {seq: (mark._replace(seq=seq), at) for seq, (mark, at) in held.items()}
        found = [each for page in index.pages() for each in index.page(page)]
        assert found == [held[seq] for seq in sorted(held)]
        assert index.num_entries == len(held)
        assert index.num_failed == sum(mark.is_failed for mark, _ in held.values())
        assert all(seq in index for seq in held)


def test_many_marks_take_little_memory():
    """Twenty thousand ids are all known again, for less than seventy bytes each."""
    tracemalloc.start()
    index = EntryIndex()
    for seq in range(20_000):
        index.add(Mark(seq, f"record-{seq}", b"12345678", False), seq + 1)
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert used < 70 * 20_000
    assert not any(index.add(Mark(10**6, f"record-{seq}", b"", False), 1) for seq in range(20_000))
    assert index.add(Mark(10**6, "record-20000", b"", False), 1)


def test_ids_that_come_and_go_are_told_apart():
    """Removing and adding the same ids over and over neither fills the set nor loses one."""
    index = EntryIndex()

    for turn in range(50):
        for seq in range(100):
            assert index.add(Mark(seq, f"{turn % 3}-{seq}", b"", False), 1)
        for seq in range(100):
            index.remove(seq)
            assert index.add(Mark(seq, f"{turn % 3}-{seq}", b"", True), 2)
            index.remove(seq)

    assert index.num_entries == index.num_failed == 0


def test_an_empty_id_is_an_id():
    """It collides with itself alone, and is free again after its removal."""
    index = EntryIndex()
    assert index.add(Mark(0, "", b"", False), 1)
    assert not index.add(Mark(1, "", b"", False), 1)

    index.remove(0)

    assert index.add(Mark(1, "", b"", False), 1)
