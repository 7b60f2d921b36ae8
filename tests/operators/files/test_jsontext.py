"""Records as JSON text."""

from __future__ import annotations

import datetime
import decimal
import json

import numpy as np
import pytest

from sage_dask.operators.files.jsontext import json_line, json_line_of_anything, with_id


def test_values_of_columnar_files_have_a_form():
    """Dates and times become ISO texts, decimals exact texts, arrays nested lists."""
    record = {
        "day": datetime.date(2024, 2, 29),
        "at": datetime.datetime(2024, 2, 29, 12, tzinfo=datetime.UTC),
        "price": decimal.Decimal("0.10"),
        "grid": np.zeros((2, 2), np.int8),
    }

    assert json.loads(json_line(record)) == {
        "day": "2024-02-29",
        "at": "2024-02-29T12:00:00+00:00",
        "price": "0.10",
        "grid": [[0, 0], [0, 0]],
    }


def test_half_a_surrogate_pair_is_spelled_out():
    """A text that has no UTF-8 form is still written, and read as it was."""
    line = json_line({"a": "\ud800é"})

    assert line.isascii()
    assert json.loads(line) == {"a": "\ud800é"}


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (b"x", "(bytes) can not be written as JSON: bytes has no form"),
        ({1}, "(set)"),
        (float("nan"), "(float)"),
        (np.array([np.inf]), "(ndarray)"),
        ({(1, 2): 3}, "(dict)"),
    ],
)
def test_what_has_no_form_is_named(value: object, found: str):
    """The message names the field, its type, and the mend."""
    with pytest.raises(ValueError, match="field 'bad'") as raised:
        json_line({"good": 1, "bad": value})

    assert found in str(raised.value)
    assert ".map()" in str(raised.value)


def test_a_record_that_holds_itself_is_refused():
    """A cycle is an error of the record, not of the stack."""
    record: dict[str, object] = {}
    record["self"] = record

    with pytest.raises(ValueError, match="field 'self'"):
        json_line(record)


class Unprintable:
    def __repr__(self) -> str:
        raise RuntimeError("no")


def test_the_failed_file_takes_anything():
    """What JSON can not hold stands there as its repr, beside the fields that it can hold."""
    cycle: dict[str, object] = {"ok": 1}
    cycle["self"] = cycle
    record = {"id": "a", "input": {"x": b"y", "n": float("nan"), "k": 1}, 5: Unprintable()}

    row = json.loads(json_line_of_anything(record))
    cyclic = json.loads(json_line_of_anything(cycle))

    assert row["input"] == {"x": "b'y'", "n": "nan", "k": 1}
    assert row["5"] == "<Unprintable whose repr raises RuntimeError>"
    assert cyclic["ok"] == 1


def test_an_id_goes_first_where_there_is_none():
    """A record's own id field is left alone."""
    assert list(with_id("a", {"x": 1}).items()) == [("id", "a"), ("x", 1)]
    assert with_id("a", {"x": 1, "id": 5}) == {"x": 1, "id": 5}
