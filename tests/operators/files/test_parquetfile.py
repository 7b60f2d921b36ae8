"""Parquet, read and written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sage_dask.errors import SourceError
from sage_dask.operators.files import parquetpartial
from sage_dask.operators.files.parquetfile import ReadParquet, WriteParquet
from sage_dask.record import Failure, Position, Record
from sage_dask.stage import FieldSet


@pytest.fixture
def numbers(tmp_path: Path) -> Path:
    """A file of 1000 rows in four row groups."""
    path = tmp_path / "in.parquet"
    table = pa.table({"key": range(1000), "text": [f"t{i}" for i in range(1000)]})
    pq.write_table(table, path, row_group_size=250, write_page_checksum=True, use_dictionary=False)
    return path


def written(path: Path, *batches: list[Record]) -> tuple[list[Record], list[Failure]]:
    """Return the rows and failures of writing batches."""
    sink = WriteParquet(path)
    sink.open()
    failures = [
        failure
        for rows in batches
        for failure in sink.write([str(row.get("id", "none")) for row in rows], rows)
    ]
    sink.close()
    return pq.read_table(path).to_pylist(), failures


def test_columns_and_ids_are_picked(numbers: Path):
    """The id's column is read though only another was asked for."""
    source = ReadParquet(numbers, id="key", columns=["text"])

    items = list(source.read())

    assert len(items) == source.size() == 1000
    assert items[999] == ("999", {"key": 999, "text": "t999"}, Position(1000))
    assert source.known_fields() == FieldSet(frozenset({"key", "text"}), is_open=False)


def test_rows_are_numbered_without_an_id(numbers: Path):
    """Ids count from 1, and only the columns asked for are there."""
    items = list(ReadParquet(numbers, columns=["text"]).read())

    assert items[0] == ("1", {"text": "t0"}, Position(1))


def test_a_row_without_an_id_fails_alone(tmp_path: Path):
    """A null id is a fault of its row."""
    path = tmp_path / "in.parquet"
    pq.write_table(pa.table({"key": ["a", None, "c"]}), path)

    items = list(ReadParquet(path, id="key").read())

    assert [item.id for item in items] == ["a", "line-2", "c"]
    assert isinstance(items[1], Failure)


def test_what_can_not_be_read_is_found_before_the_run(numbers: Path, tmp_path: Path):
    """Unknown columns, doubled ones and files of another kind are refused by check."""
    (tmp_path / "text.parquet").write_text("no parquet")
    doubled = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"])
    pq.write_table(doubled, tmp_path / "doubled.parquet")

    with pytest.raises(SourceError, match=r"no column 'txt'.*did you mean 'text'"):
        ReadParquet(numbers, columns=["txt"]).check()
    with pytest.raises(SourceError, match="no column 'id'"):
        ReadParquet(numbers, id="id").check()
    with pytest.raises(SourceError, match="more than one column called 'a'"):
        ReadParquet(tmp_path / "doubled.parquet").check()
    with pytest.raises(SourceError, match="is no Parquet file"):
        ReadParquet(tmp_path / "text.parquet").check()


def test_a_flipped_bit_raises(numbers: Path):
    """Damaged pages are refused, not read as if nothing were wrong."""
    data = bytearray(numbers.read_bytes())
    chunk = pq.read_metadata(numbers).row_group(3).column(1)
    data[chunk.data_page_offset + chunk.total_compressed_size // 2] ^= 1
    numbers.write_bytes(data)

    with pytest.raises(SourceError, match="breaks off after row"):
        list(ReadParquet(numbers).read())


def test_the_schema_widens_with_the_first_rows(tmp_path: Path):
    """New fields, nested ones too, None to text and whole numbers to fractions all fit."""
    rows, failures = written(
        tmp_path / "out.parquet",
        [{"id": "a", "n": 1, "note": None, "meta": {"x": 1}}],
        [{"id": "b", "n": 1.5, "note": "hi", "meta": {"y": [2]}, "v": np.arange(2)}],
    )

    assert not failures
    assert rows == [
        {"id": "a", "n": 1.0, "note": None, "meta": {"x": 1, "y": None}, "v": None},
        {"id": "b", "n": 1.5, "note": "hi", "meta": {"x": None, "y": [2]}, "v": [0, 1]},
    ]


@pytest.mark.parametrize(
    ("odd", "message"),
    [
        ({"n": "text"}, "does not fit"),
        ({"meta": {}}, "'meta' holds an empty mapping"),
        ({"n": object()}, "'n' has no form"),
        ({"n": 2**70}, "'n'"),
        ({"t": "\ud800"}, "'t'"),
        ({5: 1}, "field 5"),
    ],
)
def test_a_record_that_does_not_fit_fails_alone(tmp_path: Path, odd: Record, message: str):
    """Its neighbours in the batch are written, in order."""
    good = [{"id": str(i), "n": i} for i in range(6)]

    rows, failures = written(tmp_path / "out.parquet", [*good[:3], {"id": "odd"} | odd, *good[3:]])

    assert [row["id"] for row in rows] == ["0", "1", "2", "3", "4", "5"]
    assert [failure.id for failure in failures] == ["odd"]
    assert message in failures[0].message


def test_the_schema_stands_once_a_row_group_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A later field, nested or not, fails its record and is not dropped in silence."""
    monkeypatch.setattr(parquetpartial, "_GROUP_ROWS", 2)
    first = [{"id": "a", "m": {"x": 1}}, {"id": "b", "m": {"x": 2}}]
    later = [{"id": "c", "new": 1}, {"id": "d", "m": {"y": 1}}, {"id": "e"}]

    rows, failures = written(tmp_path / "out.parquet", first, later)

    assert [row["id"] for row in rows] == ["a", "b", "e"]
    assert [failure.id for failure in failures] == ["c", "d"]
    assert "'new'" in failures[0].message
    assert pq.read_metadata(tmp_path / "out.parquet").num_row_groups == 2


def test_many_small_writes_make_few_row_groups(tmp_path: Path):
    """Rows are gathered, however few come at a time."""
    rows, failures = written(tmp_path / "out.parquet", *([{"id": str(i)}] for i in range(300)))

    assert not failures
    assert len(rows) == 300
    assert pq.read_metadata(tmp_path / "out.parquet").num_row_groups == 1
