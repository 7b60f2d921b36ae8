"""JSON lines, read and written."""

from __future__ import annotations

import gzip
import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sage_dask.errors import PlanError
from sage_dask.operators.files.jsonlines import ReadJsonl, WriteJsonl
from sage_dask.record import Failure, Position, SourceItem
from sage_dask.stage import FieldSet

GOOD = b'{"id": "a", "n": 1}\n'

# Any text at all, halves of surrogate pairs included: JSON can spell them.
texts = st.text(st.characters(), max_size=10)
scalars = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
)
values = st.recursive(
    scalars | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
objects = st.dictionaries(texts, values, max_size=4)


def read(tmp_path: Path, data: bytes, **options: object) -> list[SourceItem | Failure]:
    path = tmp_path / "in.jsonl"
    path.write_bytes(data)
    return list(ReadJsonl(path, **options).read())


def test_rows_are_numbered_by_their_lines(tmp_path: Path):
    """Blank lines are passed over but counted, and both line ends are taken."""
    items = read(tmp_path, b'{"a": 1}\r\n\n  \n{"a": 2}')

    assert items == [
        SourceItem("1", {"a": 1}, Position(1, 0)),
        SourceItem("4", {"a": 2}, Position(4, 14)),
    ]


def test_an_id_field_names_the_rows_and_stays(tmp_path: Path):
    """A whole number names a row by its digits; the record keeps the number."""
    items = read(tmp_path, b'{"key": "x"}\n{"key": 5}\n', id="key")

    assert [(item.id, item.record) for item in items] == [("x", {"key": "x"}), ("5", {"key": 5})]


@pytest.mark.parametrize(
    ("row", "error", "message"),
    [
        (b'{"id": "b", }', "BadRowError", "column 13"),
        (b'{"id": "b"} {}', "BadRowError", "Extra data"),
        (b"[1]", "BadRowError", "JSON array"),
        (b"null", "BadRowError", "JSON null"),
        (b'{"id": "b", "x": NaN}', "BadRowError", "NaN, which is not JSON"),
        (b"[" * 100_000, "BadRowError", "recursion"),
        (b'{"id": ' + b"9" * 5000 + b"}", "BadRowError", "4300 digits"),
        (b'{"id": "b\xff"}', "NotUtf8Error", "0xff"),
        (b'{"id": "b\0"}', "NulByteError", "NUL"),
        (b'{"n": 1}', "BadIdError", "no field 'id'"),
        (b'{"id": 1.5}', "BadIdError", "is float"),
        (b'{"id": null}', "BadIdError", "is NoneType"),
        (b'{"id": "' + b"b" * 200_000 + b'"}', "RowTooLongError", "longer than 150000 bytes"),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_a_faulty_row_fails_alone(tmp_path: Path, row: bytes, error: str, message: str):
    """The row becomes a failure with kind, place and excerpt, and its neighbours are read."""
    before, failure, after = read(
        tmp_path, GOOD + row + b"\n" + GOOD, id="id", max_line_bytes=150_000
    )

    assert isinstance(before, SourceItem)
    assert isinstance(after, SourceItem)
    assert isinstance(failure, Failure)
    assert (failure.id, failure.stage, failure.error) == ("line-2", "read", error)
    assert message in failure.message
    assert failure.position == Position(2, len(GOOD))
    assert failure.record is not None
    assert 0 < len(failure.record["raw"]) <= 200


def test_a_faulty_row_keeps_its_number_where_numbers_are_ids(tmp_path: Path):
    """The failure has the id that the row would have had."""
    items = read(tmp_path, b"{}\n{\n")

    assert [item.id for item in items] == ["1", "2"]


@pytest.mark.parametrize(
    ("data", "fields"),
    [
        (b'{"a": 1}\n{"a": 2}\n', FieldSet(frozenset("a"), is_open=False)),
        (b'{"a": 1}\n{"b": 2}\n', FieldSet(frozenset("ab"), is_open=True)),
        (b'broken\n{"a": 1}\n', FieldSet(frozenset("a"), is_open=False)),
        (b"", FieldSet(frozenset(), is_open=True)),
    ],
)
def test_the_first_good_rows_tell_the_fields(tmp_path: Path, data: bytes, fields: FieldSet):
    """Equal keys are all there are; different ones leave room for more; none say nothing."""
    path = tmp_path / "in.jsonl"
    path.write_bytes(data)

    assert ReadJsonl(path).known_fields() == fields


def test_declared_fields_are_taken_on_trust(tmp_path: Path):
    """The file need not even be there to plan with them."""
    source = ReadJsonl(tmp_path / "missing", fields=["a"])

    assert source.known_fields() == FieldSet(frozenset("a"), is_open=True)


def test_a_limit_of_no_bytes_is_refused():
    """The declaration is wrong before any file is looked at."""
    with pytest.raises(PlanError, match="max_line_bytes=0 must be at least 1"):
        ReadJsonl("in.jsonl", max_line_bytes=0)


def test_numpy_values_become_plain_ones(tmp_path: Path):
    """Scalars are written as numbers and arrays as lists."""
    sink = WriteJsonl(tmp_path / "out.jsonl")
    sink.open()
    record = {"a": np.float32(0.5), "b": np.arange(3), "c": [np.int64(7)], "d": np.bool_(True)}

    failures = sink.write(["1"], [record])
    sink.close()

    assert not failures
    assert (tmp_path / "out.jsonl").read_text() == (
        '{"id": "1", "a": 0.5, "b": [0, 1, 2], "c": [7], "d": true}\n'
    )


@given(st.lists(objects, max_size=5), st.sampled_from(["", ".gz", ".zst"]))
def test_any_objects_come_back_as_they_were(rows: list[dict[str, object]], packing: str):
    """What JSON can hold survives writing and reading, its id apart."""
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/x.jsonl{packing}"
        sink = WriteJsonl(path)
        sink.open()
        failures = sink.write([str(i) for i in range(len(rows))], rows)
        sink.close()

        items = list(ReadJsonl(path).read())

    assert not failures
    assert [item.record for item in items] == [
        {"id": str(i), **row} if "id" not in row else row for i, row in enumerate(rows)
    ]


@given(st.binary(max_size=200), st.integers(0, 60))
def test_random_bytes_in_a_file_are_all_accounted_for(junk: bytes, place: int):
    """Good rows, failures and blank lines together are the lines of the file."""
    data = GOOD * 3
    data = data[:place] + junk + data[place:]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.jsonl"
        path.write_bytes(data)

        items = list(ReadJsonl(path, id="id", max_line_bytes=100).read())

    text = data.removeprefix(b"\xef\xbb\xbf")
    lines = text.split(b"\n")
    lines = lines if lines[-1] else lines[:-1]
    blank = sum(not line.strip() for line in lines)
    assert len(items) + blank == len(lines)
    for item in items:
        assert item.position is not None
        assert item.position.byte_offset is not None
        if isinstance(item, SourceItem) and item.position.line > 1:
            line = data[item.position.byte_offset :].split(b"\n")[0]
            assert json.loads(line) == item.record


def test_the_size_is_the_number_of_rows(tmp_path):
    """Lines that are not blank are counted, good ones and bad ones; a compressed file is not."""
    plain, packed = tmp_path / "rows.jsonl", tmp_path / "rows.jsonl.gz"
    plain.write_bytes(b'\xef\xbb\xbf{"a": 1}\n\n{"a": 2}\r\n   \nbroken')
    packed.write_bytes(gzip.compress(b"{}\n"))

    assert ReadJsonl(plain).size() == len(list(ReadJsonl(plain).read())) == 3
    assert ReadJsonl(packed).size() is None
