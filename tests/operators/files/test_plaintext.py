"""Lines and files of plain text."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from sage_dask.errors import PlanError, SourceError
from sage_dask.operators.files.plaintext import ReadText
from sage_dask.record import Failure, Position, SourceItem
from sage_dask.stage import FieldSet


@pytest.fixture
def papers(tmp_path: Path) -> Path:
    """A folder of two texts, one packed, one not UTF-8, and two hidden ones."""
    folder = tmp_path / "papers"
    (folder / "old").mkdir(parents=True)
    (folder / ".git").mkdir()
    (folder / "b.txt").write_text("second\n")
    (folder / "a.txt").write_text("first")
    (folder / "old" / "c.txt.gz").write_bytes(gzip.compress(b"third"))
    (folder / "old" / "d.txt").write_bytes(b"\xff")
    (folder / ".git" / "e.txt").write_text("hidden")
    (folder / ".f.txt").write_text("hidden")
    return folder


def test_each_line_is_a_record(tmp_path: Path):
    """Line ends go, inner blanks stay, and ids are line numbers, a faulty line's too."""
    path = tmp_path / "in.txt"
    path.write_bytes(b" one \r\n\n\xff\ntwo")

    first, faulty, last = ReadText(path, field="question").read()

    assert first == SourceItem("1", {"question": " one "}, Position(1, 0))
    assert isinstance(faulty, Failure)
    assert (faulty.id, faulty.error) == ("3", "NotUtf8Error")
    assert last == SourceItem("4", {"question": "two"}, Position(4, 10))


def test_each_file_of_a_folder_is_a_record(papers: Path):
    """Files come by name, packed ones unpacked, hidden ones not at all; a bad one fails alone."""
    source = ReadText(papers, unit="file")

    items = list(source.read())

    assert [item.id for item in items] == ["a.txt", "b.txt", "old/c.txt.gz", "old/d.txt"]
    assert [i.record for i in items[:3]] == [
        {"text": "first"},
        {"text": "second\n"},
        {"text": "third"},
    ]
    assert isinstance(items[3], Failure)
    assert items[3].error == "NotUtf8Error"
    assert source.size() == 4


@pytest.mark.parametrize(
    ("pattern", "ids"),
    [
        ("*.txt", ["a.txt", "b.txt"]),
        ("**/*.txt", ["a.txt", "b.txt", "old/d.txt"]),
        ("old/c*", ["c.txt.gz"]),
        ("b.txt", ["b.txt"]),
    ],
)
def test_a_pattern_picks_files(papers: Path, pattern: str, ids: list[str]):
    """Ids are paths below the part of the pattern that is fixed."""
    items = ReadText(papers / pattern, unit="file").read()

    assert [item.id for item in items] == ids


def test_a_broken_packed_file_fails_alone(papers: Path):
    """One file is one row: a truncated one is a failure among good ones."""
    packed = papers / "old" / "c.txt.gz"
    packed.write_bytes(packed.read_bytes()[:-5])

    items = list(ReadText(papers / "**" / "*c*", unit="file").read())

    assert [(item.id, type(item)) for item in items] == [("old/c.txt.gz", Failure)]


def test_a_file_over_the_limit_fails(papers: Path):
    """The limit is for the unit that is read."""
    (item,) = ReadText(papers / "b.txt", unit="file", max_line_bytes=6).read()

    assert isinstance(item, Failure)
    assert item.error == "RowTooLongError"


def test_a_pattern_that_matches_nothing_is_found_before_the_run(papers: Path):
    """A typing error is no empty input; an empty folder is one."""
    with pytest.raises(SourceError, match="matches no file"):
        ReadText(papers / "*.pdf", unit="file").check()
    with pytest.raises(SourceError, match="does not exist"):
        ReadText(papers / "missing", unit="file").check()
    (papers / "empty").mkdir()
    assert list(ReadText(papers / "empty", unit="file").read()) == []


def test_the_field_is_known_and_the_unit_checked():
    """Both can be told from the declaration alone."""
    assert ReadText("x.txt", field="q").known_fields() == FieldSet(frozenset("q"), is_open=False)
    with pytest.raises(PlanError, match="unit='word' must be one of line, file"):
        ReadText("x.txt", unit="word")
