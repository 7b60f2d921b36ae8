"""Ids and faults of single rows."""

from __future__ import annotations

import pytest

from sage_dask.operators.files.rows import (
    BadIdError,
    CutLine,
    NotUtf8Error,
    NulByteError,
    RowTooLongError,
    decode,
    excerpt,
    row_failure,
    row_id,
)
from sage_dask.record import Position


@pytest.mark.parametrize(("value", "wanted"), [("a b", "a b"), (7, "7"), (-1, "-1"), (0, "0")])
def test_an_id_is_text_or_a_whole_number(value: object, wanted: str):
    """Text stays as it is, an int becomes its decimal digits."""
    assert row_id({"key": value}, "key") == wanted


@pytest.mark.parametrize("value", [None, True, 1.0, "", [], "\ud800"])
def test_other_values_are_no_id(value: object):
    """Neither null, truth, fractions, lists, empty text nor half a surrogate pair name a record."""
    with pytest.raises(BadIdError, match="the id in field 'key' is"):
        row_id({"key": value}, "key")


def test_a_missing_id_names_the_fields_there_are():
    """The message lists the row's fields and the one that was probably meant."""
    with pytest.raises(BadIdError, match=r"no field 'idd'.*'id', 'text'.*did you mean 'id'"):
        row_id({"id": 1, "text": ""}, "idd")


def test_faulty_bytes_are_told_apart():
    """A cut line, a NUL byte and bytes that are not UTF-8 are three kinds of fault."""
    with pytest.raises(RowTooLongError, match="longer than 10 bytes"):
        decode(CutLine(b"abc"), 10)
    with pytest.raises(NulByteError, match="at byte 2"):
        decode(b"a\0\xff", 10)
    with pytest.raises(NotUtf8Error, match="0xff at byte 3"):
        decode(b"ab\xff", 10)
    assert decode("é".encode(), 10) == "é"


def test_an_excerpt_is_short_and_printable():
    """Control characters and broken bytes are escaped, and 200 characters are the most."""
    assert excerpt(b'{"a": \0\xff\x1b} \xc3\xa9\r\n') == '{"a": \\x00\\xff\\x1b} é'
    assert len(excerpt(b"\0" * 1000)) == 200
    assert len(excerpt("x" * 1000)) == 200


def test_a_failure_carries_the_kind_of_fault_and_the_place():
    """The failed file can be counted by error and led back to the line."""
    failure = row_failure(NulByteError("why"), "line-7", Position(7, 99), b"raw\n")

    assert failure.as_record() == {
        "id": "line-7",
        "stage": "read",
        "error": "NulByteError",
        "message": "why",
        "attempts": 1,
        "line": 7,
        "byte_offset": 99,
        "input": {"raw": "raw"},
    }
