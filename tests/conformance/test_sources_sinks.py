"""What every file source and every file sink must do, whatever its format."""

from __future__ import annotations

import hashlib
import json
import pickle
import resource
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sage_dask.errors import SinkError, SourceError
from sage_dask.operators.files import parquetpartial
from sage_dask.operators.sinks import WriteCsv, WriteJsonl, WriteOpenAIBatch, WriteParquet
from sage_dask.operators.sources import (
    ReadCsv,
    ReadJsonl,
    ReadOpenAIBatch,
    ReadParquet,
    ReadText,
)
from sage_dask.record import Failure, Record, SourceItem
from sage_dask.stage import Sink, Source

IDS = [f"q-{i}" for i in range(50)]
RECORDS: list[Record] = [
    {
        "id": IDS[i],
        "question": f'Größe "{i}",\n東京 {chr(0x1F600 + i)}',
        # Packs badly, so that packed files grow with each record too.
        "digest": hashlib.sha256(IDS[i].encode()).hexdigest(),
        "score": i / 7,
        "rank": i,
        "is_good": i % 2 == 0,
        "note": None if i % 3 else "here",
        "passages": [{"id": f"p{i}", "score": 0.5}],
    }
    for i in range(50)
]
FAILURE = Failure("q-x", "generate", "TimeoutError", "no answer within 30 s", record={"a": 1})


def csv_cells(record: Record) -> Record:
    """Return a record as CSV gives it back: text, empty for None, JSON for the rest."""
    return {
        name: value
        if isinstance(value, str)
        else ""
        if value is None
        else json.dumps(value, ensure_ascii=False)
        for name, value in record.items()
    }


def unchanged(record: Record) -> Record:
    return record


@dataclass
class Format:
    """One file format, both ways."""

    name: str
    write: Callable[[Path], Sink]
    read: Callable[[Path], Source]
    expect: Callable[[Record], Record] = unchanged

    def __repr__(self) -> str:
        return self.name


ROW_FORMATS = [
    Format(f"{name}{packed}", write, read, expect)
    for name, write, read, expect in [
        ("jsonl", WriteJsonl, lambda path: ReadJsonl(path, id="id"), unchanged),
        ("csv", WriteCsv, lambda path: ReadCsv(path, id="id"), csv_cells),
    ]
    for packed in ("", ".gz", ".zst")
]
FORMATS = [
    *ROW_FORMATS,
    Format("parquet", WriteParquet, lambda path: ReadParquet(path, id="id")),
]
SINKS = [
    *FORMATS,
    Format("batch.jsonl", lambda path: WriteOpenAIBatch(path, answer="question"), ReadJsonl),
]
SOURCES: list[Callable[[Path], Source]] = [
    ReadJsonl,
    ReadCsv,
    ReadText,
    ReadOpenAIBatch,
    ReadParquet,
]

each_format = pytest.mark.parametrize("form", FORMATS, ids=repr)
each_row_format = pytest.mark.parametrize("form", ROW_FORMATS, ids=repr)
each_sink = pytest.mark.parametrize("form", SINKS, ids=repr)
each_source = pytest.mark.parametrize("source", SOURCES)


def write_all(sink: Sink, records: list[Record] = RECORDS, at_a_time: int = 8) -> None:
    for start in range(0, len(records), at_a_time):
        part = records[start : start + at_a_time]
        assert not sink.write([record["id"] for record in part], part)


def good_items(source: Source) -> list[SourceItem]:
    items = list(source.read())
    assert all(isinstance(item, SourceItem) for item in items), items
    return [item for item in items if isinstance(item, SourceItem)]


def readable_copy(partial: Path, form: Format) -> Path:
    """Return a copy of a partial under a name that tells its compression."""
    return Path(shutil.copy(partial, partial.with_name(f"copy.{form}")))


@contextmanager
def largest_file(num_bytes: int) -> Iterator[None]:
    """Let no file grow beyond ``num_bytes``, which ends a write midway as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@each_format
def test_what_is_written_is_read_again(form: Format, tmp_path: Path):
    """Fifty records with unicode, nested values, numbers and None come back in order."""
    path = tmp_path / f"out.{form}"
    sink = form.write(path)

    sink.check()
    sink.open()
    write_all(sink)
    sink.close()
    items = good_items(form.read(path))

    assert [item.id for item in items] == IDS
    assert [item.record for item in items] == [form.expect(record) for record in RECORDS]
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@each_format
def test_fields_are_known_without_reading_all(form: Format, tmp_path: Path):
    """A source tells the fields of its records, and that there are no others."""
    sink = form.write(tmp_path / f"out.{form}")
    sink.open()
    write_all(sink)
    sink.close()

    fields = form.read(tmp_path / f"out.{form}").known_fields()

    assert fields.names == set(RECORDS[0])
    assert not fields.is_open


@each_sink
def test_the_target_appears_only_when_the_sink_is_closed(form: Format, tmp_path: Path):
    """Until then the records stand in the partial beside it."""
    path = tmp_path / f"out.{form}"
    sink = form.write(path)

    sink.open()
    write_all(sink)
    seen_while_open = [p.name for p in tmp_path.iterdir()]
    sink.close()

    assert seen_while_open == [f"{path.name}.partial"]
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@each_format
def test_an_empty_run_makes_a_file_that_reads_as_no_records(form: Format, tmp_path: Path):
    """No record at all is not an error, neither when written nor when read."""
    path = tmp_path / f"out.{form}"
    sink = form.write(path)
    sink.open()
    sink.close()

    items = list((form.read(path) if form.name != "parquet" else ReadParquet(path)).read())

    assert items == []


@each_format
def test_abort_leaves_whole_records(form: Format, tmp_path: Path):
    """What was written before an abort can be read from the partial, and the target is absent."""
    path = tmp_path / f"out.{form}"
    sink = form.write(path)
    sink.open()
    write_all(sink, RECORDS[:20])
    sink.write_failures([FAILURE])

    sentence = sink.abort()

    partial = tmp_path / f"out.{form}.partial"
    items = good_items(form.read(readable_copy(partial, form)))
    assert [item.id for item in items] == IDS[:20]
    assert not path.exists()
    assert "20 records" in sentence
    assert str(partial) in sentence
    assert "1 failed" in sentence
    assert f"{path}.failed.jsonl.partial" in sentence


@each_row_format
def test_a_full_disk_leaves_whole_records(form: Format, tmp_path: Path, monkeypatch: Any):
    """A write that breaks off midway raises, and abort leaves the whole rows before the break."""
    monkeypatch.setattr("sage_dask.operators.files.partial._MEMBER_BYTES", 1000)
    sink = form.write(tmp_path / f"out.{form}")
    sink.open()

    with largest_file(1500), pytest.raises(SinkError, match="disk full") as raised:
        write_all(sink)
    with largest_file(1500):
        sentence = sink.abort()

    partial = tmp_path / f"out.{form}.partial"
    items = good_items(form.read(readable_copy(partial, form)))
    assert 0 < len(items) < 50
    assert [item.id for item in items] == IDS[: len(items)]
    assert f"{len(items)} records" in sentence
    assert f"{len(items)} records are safe" in str(raised.value)


def test_a_full_disk_says_that_no_row_of_a_parquet_file_is_safe(tmp_path: Path, monkeypatch: Any):
    """Parquet without a footer can not be read, and abort does not pretend otherwise."""
    monkeypatch.setattr(parquetpartial, "_GROUP_ROWS", 10)
    sink = WriteParquet(tmp_path / "out.parquet")
    sink.open()

    with largest_file(1500), pytest.raises(SinkError, match=r"disk full.*no readable record"):
        write_all(sink)

    assert "0 records" in sink.abort()


@each_sink
def test_a_failed_file_stands_beside_the_output(form: Format, tmp_path: Path):
    """Failures are published with the output, with their stage, error and input."""
    path = tmp_path / f"out.{form}"
    sink = form.write(path)
    sink.open()
    write_all(sink)
    sink.write_failures([FAILURE])
    sink.close()

    rows = [json.loads(line) for line in Path(f"{path}.failed.jsonl").read_text().splitlines()]

    assert rows == [FAILURE.as_record()]
    assert sorted(p.name for p in tmp_path.iterdir()) == [path.name, f"{path.name}.failed.jsonl"]


@each_sink
def test_a_run_without_failures_removes_the_failed_file_of_an_earlier_one(
    form: Format, tmp_path: Path
):
    """A stale failed file would accuse records that are in the output."""
    path = tmp_path / f"out.{form}"
    failed, failed_partial = Path(f"{path}.failed.jsonl"), Path(f"{path}.failed.jsonl.partial")
    for stale in (failed, failed_partial):
        stale.write_text("{}\n")
    sink = form.write(path)

    sink.open()
    sink.write_failures([])
    sink.close()

    assert not failed.exists()
    assert not failed_partial.exists()


@each_format
def test_opening_again_starts_anew(form: Format, tmp_path: Path):
    """Neither an aborted nor a finished run leaves records in the next one's output."""
    path = tmp_path / f"out.{form}"
    sink = form.write(path)
    for end in (sink.abort, sink.close):
        sink.open()
        write_all(sink, RECORDS[:30])
        end()

    sink.open()
    write_all(sink, RECORDS[40:])
    sink.close()

    assert [item.id for item in good_items(form.read(path))] == IDS[40:]


@each_sink
def test_a_record_without_an_id_field_is_written_with_its_id(form: Format, tmp_path: Path):
    """The id that travels beside a record is in the file."""
    path = tmp_path / f"out.{form}"
    sink = form.write(path)
    sink.open()
    sink.write(["seven"], [{"question": "why?"}])
    sink.close()

    (item,) = (ReadJsonl(path) if "batch" in form.name else form.read(path)).read()

    assert isinstance(item, SourceItem)
    assert next(iter(item.record)) == "id"
    assert "seven" in (item.record["id"], item.record.get("custom_id"))


@each_sink
def test_a_record_with_no_form_in_the_format_fails_alone(form: Format, tmp_path: Path):
    """An object goes to the failures by its field's name, and its neighbours are written."""
    field = "question" if "batch" in form.name else "score"
    sink = form.write(tmp_path / f"out.{form}")
    sink.open()
    rows = [dict(RECORDS[0]), RECORDS[1] | {field: object()}, dict(RECORDS[2])]

    failures = sink.write(IDS[:3], rows)

    assert [(f.id, f.stage) for f in failures] == [(IDS[1], "write")]
    assert field in failures[0].message
    assert "object" in failures[0].message
    assert "2 records" in sink.abort()


@each_sink
@pytest.mark.parametrize("folder", ["missing", "file", "/proc"])
def test_a_folder_that_takes_no_file_is_refused_before_the_run(
    form: Format, folder: str, tmp_path: Path
):
    """A missing folder, a file in its place and a folder that takes none are found by check."""
    (tmp_path / "file").write_text("")
    path = tmp_path / folder / f"out.{form}"

    with pytest.raises(SinkError) as raised:
        form.write(path).check()

    assert str(path) in str(raised.value)


@each_sink
def test_a_target_that_is_a_folder_is_refused(form: Format, tmp_path: Path):
    """A folder under the output's name, or under the failed file's, can not be replaced."""
    path = tmp_path / f"out.{form}"
    for folder in (path, Path(f"{path}.failed.jsonl")):
        folder.mkdir()

        with pytest.raises(SinkError, match="is a folder"):
            form.write(path).check()

        folder.rmdir()
    form.write(path).check()


@each_sink
def test_check_leaves_no_trace(form: Format, tmp_path: Path):
    """Planning alone makes no file, and spoils none that an aborted run left."""
    path = tmp_path / f"out.{form}"
    partial = Path(f"{path}.partial")
    partial.write_text("kept")

    form.write(path).check()

    assert [p.name for p in tmp_path.iterdir()] == [partial.name]
    assert partial.read_text() == "kept"


@each_sink
def test_an_open_sink_travels_as_it_was_declared(form: Format, tmp_path: Path):
    """Files stay where they were opened; the copy is equal and not open."""
    sink = form.write(tmp_path / f"out.{form}")
    sink.open()

    copy = pickle.loads(pickle.dumps(sink))

    assert copy == sink
    with pytest.raises(SinkError, match="not open"):
        copy.write(["1"], [{"question": "a"}])
    assert sink.abort()
    assert copy.abort() == ""


@each_source
def test_a_missing_file_is_found_before_the_run(source: Callable[[Path], Source], tmp_path: Path):
    """The message names the path and a name that is close."""
    (tmp_path / "questions.jsonl").write_text("")

    with pytest.raises(SourceError, match=r"does not exist.*did you mean 'questions.jsonl'"):
        source(tmp_path / "question.jsonl").check()


@each_source
def test_a_folder_or_a_device_is_no_file(source: Callable[[Path], Source], tmp_path: Path):
    """What is not a regular file is refused with a sentence, not read."""
    with pytest.raises(SourceError, match="is a folder"):
        source(tmp_path).check()
    with pytest.raises(SourceError, match="pipe or a device"):
        source(Path("/dev/null")).check()


@each_source
def test_a_source_keeps_its_path_as_text(source: Callable[..., Source], tmp_path: Path):
    """A path object and its text make equal sources, so YAML and Python agree."""
    path = tmp_path / "in.jsonl"

    made = source(path)

    assert made == source(str(path))
    assert made.name == str(path)
