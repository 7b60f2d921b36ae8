"""CSV, read and written."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

from sage_dask.errors import PlanError, SourceError
from sage_dask.operators.files.csvfile import ReadCsv, WriteCsv
from sage_dask.record import Failure, Position, SourceItem
from sage_dask.stage import FieldSet


def source(tmp_path: Path, data: bytes, **options: object) -> ReadCsv:
    path = tmp_path / "in.csv"
    path.write_bytes(data)
    return ReadCsv(path, **options)


def read(tmp_path: Path, data: bytes, **options: object) -> list[SourceItem | Failure]:
    return list(source(tmp_path, data, **options).read())


def written(tmp_path: Path, *batches: list[dict[str, object]], **options: object):
    """Return the file's text and all failures of writing batches."""
    path = tmp_path / "out.csv"
    sink = WriteCsv(path, **options)
    sink.open()
    failures = [f for rows in batches for f in sink.write([str(r["id"]) for r in rows], rows)]
    sink.close()
    return path.read_bytes().decode(), failures


def test_rows_below_the_header_become_records(tmp_path: Path):
    """Quoted cells may hold delimiters, quotes and line ends; blank lines are passed over."""
    items = read(tmp_path, b'\xef\xbb\xbfa,b\r\n1,"x,\n""y"""\r\n\r\n2,z')

    assert items == [
        SourceItem("1", {"a": "1", "b": 'x,\n"y"'}, Position(2, 8)),
        SourceItem("2", {"a": "2", "b": "z"}, Position(5, 24)),
    ]


def test_an_id_column_names_the_rows(tmp_path: Path):
    """An empty id is a fault of its row."""
    items = read(tmp_path, b"id\tn\nx\t1\n\t2\n", id="id", delimiter="\t")

    assert [item.id for item in items] == ["x", "line-3"]
    assert isinstance(items[1], Failure)
    assert items[1].error == "BadIdError"


@pytest.mark.parametrize(
    ("row", "error", "message"),
    [
        (b"b,2,3", "BadRowError", "3 cells, and the header 2"),
        (b"b", "BadRowError", "1 cells, and the header 2"),
        (b'b,"2', "BadRowError", "check the quotes"),
        (b'b,"2"x', "BadRowError", "check the quotes"),
        (b"b,\xff", "NotUtf8Error", "0xff"),
        (b"b,\0", "NulByteError", "NUL"),
        (b"b," + b"x" * 2000, "RowTooLongError", "longer than 1000 bytes"),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_a_faulty_row_fails_alone(tmp_path: Path, row: bytes, error: str, message: str):
    """Whatever is wrong with a row, a stray quote too, its neighbours are read."""
    items = read(tmp_path, b"id,n\na,1\n" + row + b"\nc,3\nd,4\n", id="id", max_line_bytes=1000)

    assert [item.id for item in items] == ["a", "line-3", "c", "d"]
    failure = items[1]
    assert isinstance(failure, Failure)
    assert failure.error == error
    assert message in failure.message
    assert failure.position == Position(3, 9)


def test_a_quote_that_is_never_closed_costs_one_row(tmp_path: Path):
    """The reader gives up at the limit, not at the end of the file, and goes back."""
    rows = [f"r{i},{i}" for i in range(300)]
    rows[7] = 'r7,"7'
    items = read(tmp_path, ("id,n\n" + "\n".join(rows)).encode(), id="id", max_line_bytes=500)

    assert [item.id for item in items if isinstance(item, Failure)] == ["line-9"]
    assert len(items) == 300
    assert "close its quotes" in items[7].message


def test_a_long_cell_is_no_fault(tmp_path: Path):
    """Prompts are longer than the csv module's own limit for a cell."""
    (item,) = read(tmp_path, b"text\n" + b"x" * 200_000)

    assert isinstance(item, SourceItem)
    assert len(item.record["text"]) == 200_000


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (b"a,a\n", "more than one column called 'a'"),
        (b"key,a\n", "no column 'id' to take ids from, only 'a', 'key'"),
        (b"id,\xff\n", "header that is broken.*0xff"),
    ],
)
def test_a_useless_header_is_found_before_the_run(tmp_path: Path, header: bytes, message: str):
    """What spoils every row is no matter of single rows."""
    with pytest.raises(SourceError, match=message):
        source(tmp_path, header + b"1,2\n", id="id").check()


def test_the_header_tells_the_fields(tmp_path: Path):
    """A file with a header and no rows has fields; an empty file has none that are known."""
    assert source(tmp_path, b"a,b\n").known_fields() == FieldSet(frozenset("ab"), is_open=False)
    assert source(tmp_path, b"").known_fields() == FieldSet(frozenset(), is_open=True)
    assert source(tmp_path, b"", fields=["a"]).known_fields() == FieldSet(frozenset("a"))


@pytest.mark.parametrize("kind", [ReadCsv, WriteCsv])
@pytest.mark.parametrize("delimiter", ["", ";;", '"', "\n"])
def test_a_delimiter_is_one_plain_character(kind: type[ReadCsv | WriteCsv], delimiter: str):
    """What csv could not use is refused when it is declared."""
    with pytest.raises(PlanError, match="delimiter="):
        kind("x.csv", delimiter=delimiter)


def test_values_that_are_no_text_are_written_as_json(tmp_path: Path):
    """None is an empty cell, and csv's own reader takes the file apart."""
    text, failures = written(
        tmp_path, [{"id": "a", "n": 1, "t": 'x"y\r', "l": [1, "ü"], "o": None}]
    )

    assert not failures
    assert list(csv.reader(io.StringIO(text, newline=""))) == [
        ["id", "n", "t", "l", "o"],
        ["a", "1", 'x"y\r', '[1, "ü"]', ""],
    ]


def test_the_first_records_make_the_columns(tmp_path: Path):
    """A later record may lack a field; one with a field more fails rather than lose it."""
    text, failures = written(
        tmp_path,
        [{"id": "a", "x": 1}, {"id": "b", "y": 2}],
        [{"id": "c"}, {"id": "d", "z": 3}],
    )

    assert text == "id,x,y\na,1,\nb,,2\nc,,\n"
    assert [f.id for f in failures] == ["d"]
    assert "'z' is no column" in failures[0].message


def test_given_columns_are_the_columns(tmp_path: Path):
    """Naming the columns leaves the others out, and asks the plan for those named."""
    text, failures = written(
        tmp_path, [{"id": "a", "x": 1, "y": 2}], columns=["y", "id"], delimiter=";"
    )

    assert text == "y;id\n2;a\n"
    assert not failures
    assert WriteCsv("out.csv", columns=["y", "id"]).reads == ["y"]


@pytest.mark.parametrize("value", ["a\0b", "\ud800", float("nan"), b"bytes"])
def test_a_value_with_no_form_in_a_cell_fails_its_record(tmp_path: Path, value: object):
    """The header still comes, with the first record that can be written."""
    text, failures = written(tmp_path, [{"id": "a", "x": value}, {"id": "b", "x": 1}])

    assert text == "id,x\nb,1\n"
    assert [f.id for f in failures] == ["a"]
    assert "field 'x'" in failures[0].message
