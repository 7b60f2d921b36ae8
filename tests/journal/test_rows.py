"""Rows as entries."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sage_dask.journal.entries import Entry
from sage_dask.journal.rows import Row, pack, pack_memo, unpack, unpack_memo
from sage_dask.journal.store import CorruptJournalError
from sage_dask.record import Failure, Position

_RECORDS = st.dictionaries(st.text(max_size=3), st.integers() | st.text() | st.none(), max_size=3)
_POSITIONS = st.builds(Position, st.integers(1), st.none() | st.integers(0))
_FAILURES = st.builds(
    Failure,
    st.text(),
    st.text(),
    st.text(),
    st.text(),
    st.integers(1),
    st.none() | st.text(),
    st.none() | _RECORDS,
    st.none() | _POSITIONS,
)
_ROWS = st.builds(
    Row,
    st.integers(0, 2**62),
    st.none() | st.text(),
    st.just(b"") | st.binary(min_size=8, max_size=8),
    st.lists(st.tuples(st.text(), _RECORDS), max_size=3),
    st.lists(_FAILURES, max_size=3),
    st.integers(0, 5),
)


@given(_ROWS)
def test_a_row_comes_back(row):
    """What is unpacked is what was packed, with every field of every failure."""
    entry = pack(row)

    assert unpack(entry) == row
    assert entry[:4] == (row.seq, row.id, row.digest, bool(row.failures))
    assert unpack_memo(pack_memo("embed", row)) == ("embed", row)
    assert all(
        type(failure.position) in (Position, type(None)) for failure in unpack(entry).failures
    )


@pytest.mark.parametrize(
    ("outputs", "failures", "num_filtered", "num_expanded"),
    [(1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (3, 0, 0, 2), (1, 2, 1, 3), (0, 0, 0, 0)],
)
def test_expansions_are_what_exceeds_one(outputs, failures, num_filtered, num_expanded):
    """One record that was read became its outputs, failures and filtered ones."""
    failed = [Failure("x", "s", "E", "m")] * failures

    row = Row(0, "x", b"", [("x", {})] * outputs, failed, num_filtered)

    assert row.num_expanded == num_expanded
    assert row.is_failed == (failures > 0)


@pytest.mark.parametrize("where", ["outputs", "failures"])
def test_a_record_that_can_not_be_kept_is_named(where):
    """The message names the record and its field."""
    bad = {"plain": 1, "image": object()}
    row = (
        Row(0, "r", b"", [("fine", {}), ("r-1", bad)])
        if where == "outputs"
        else Row(0, "r", b"", failures=[Failure("r-1", "s", "E", "m", record=bad)])
    )

    with pytest.raises(ValueError, match=r"record 'r-1': field 'image' \(object\)"):
        pack(row)


@pytest.mark.parametrize("body", [b"", b"\xc0", b"\x93\x90\x90", b"\x93\x91\x01\x90\x00", b"\x01"])
def test_a_body_of_another_make_is_refused(body):
    """Bytes that are no row are told with the place, and never something else than that."""
    with pytest.raises(CorruptJournalError, match="entry 7"):
        unpack(Entry(7, "x", b"", False, body))
