"""The output of a run as an export of its journal."""

from __future__ import annotations

import json

import pytest

from sage_dask import Collect, Failure, FromIterable
from sage_dask.durable.export import chunks, is_published, publish
from sage_dask.durable.run_folder import PUBLISHED
from sage_dask.errors import SinkError
from sage_dask.events import parse_event
from sage_dask.journal.entries import Entry, Group
from sage_dask.journal.journal import Journal
from sage_dask.journal.rows import Row, pack, unpack
from sage_dask.operators import WriteJsonl

NUM_ROWS = 2300


def row(n):
    """Return what came of the record of a place: most are one, some two, some none."""
    if n % 10 == 3:
        return Row(n, str(n), b"", failures=[Failure(str(n), "map", "E", "no", record={"x": n})])
    if n % 10 == 7:
        return Row(n, str(n), b"", num_filtered=1)
    if n % 10 == 9:
        return Row(n, str(n), b"", [(f"{n}/{part}", {"y": n}) for part in range(2)])
    return Row(n, str(n), b"", [(str(n), {"y": n})])


@pytest.fixture
def journal(tmp_path):
    """Lend a journal whose rows were committed last first."""
    journal = Journal(tmp_path / "run")
    for first in reversed(range(0, NUM_ROWS, 100)):
        journal.put(Group([pack(row(n)) for n in range(first, first + 100)]), lambda error: None)
    journal.flush()
    yield journal
    journal.close()


def source():
    """Return the input of that journal."""
    return FromIterable([{"x": n} for n in range(NUM_ROWS)])


def tell_nobody(event):
    """Learn of refused records, and say nothing."""


def expected_ids():
    """Return the ids of the output, in its order."""
    return [output_id for n in range(NUM_ROWS) for output_id, _ in row(n).outputs]


def test_rows_are_written_in_the_order_of_reading(journal):
    """However they were committed, output and failures stand as they were read."""
    sink = Collect()

    publish(journal, source(), sink, {"num_items": "2300"}, tell_nobody)

    assert sink.ids == expected_ids()
    assert [failure.id for failure in sink.failures] == [str(n) for n in range(3, NUM_ROWS, 10)]
    assert journal.store.facts()["num_items"] == "2300"
    assert journal.store.facts()["num_rows"] == str(len(expected_ids()))


def test_what_is_published_is_not_written_again(journal, tmp_path):
    """A second export of the same rows leaves the files alone, and notes its facts."""
    sink = WriteJsonl(tmp_path / "out.jsonl")
    publish(journal, source(), sink, {}, tell_nobody)
    first = [path.stat().st_ino for path in sink.files()]

    publish(journal, source(), sink, {"num_items": "2300"}, tell_nobody)

    assert is_published(journal, sink)
    assert [path.stat().st_ino for path in sink.files()] == first
    assert journal.store.facts()["num_items"] == "2300"


@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("how", ["changed", "missing"])
def test_an_output_that_is_not_as_it_was_published_is_written_again(journal, tmp_path, place, how):
    """One byte that differs, or a file that is gone, brings both files back whole."""
    sink = WriteJsonl(tmp_path / "out.jsonl")
    publish(journal, source(), sink, {}, tell_nobody)
    whole = [path.read_bytes() for path in sink.files()]
    file = sink.files()[place]
    if how == "missing":
        file.unlink()
    else:
        data = bytearray(file.read_bytes())
        data[-2] ^= 1
        file.write_bytes(data)

    assert not is_published(journal, sink)
    publish(journal, source(), sink, {}, tell_nobody)

    assert [path.read_bytes() for path in sink.files()] == whole
    assert is_published(journal, sink)


def test_another_output_is_written_though_one_is_published(journal, tmp_path):
    """The output may be another than before; the journal is what counts."""
    publish(journal, source(), WriteJsonl(tmp_path / "a.jsonl"), {}, tell_nobody)

    publish(journal, source(), WriteJsonl(tmp_path / "b.jsonl"), {}, tell_nobody)

    assert (tmp_path / "b.jsonl").read_bytes() == (tmp_path / "a.jsonl").read_bytes()


def test_a_sink_without_files_is_written_each_time(journal):
    """What is in memory is gone with the process that had it."""
    publish(journal, source(), Collect(), {}, tell_nobody)
    sink = Collect()

    publish(journal, source(), sink, {}, tell_nobody)

    assert sink.ids == expected_ids()


class Picky(WriteJsonl):
    """Refuses some outputs."""

    refused = frozenset({"1000", "1009/1", "5"})

    def write(self, ids, records):
        good = [place for place, each in enumerate(ids) if each not in self.refused]
        super().write([ids[place] for place in good], [records[place] for place in good])
        return [Failure(i, "write", "TypeError", "no form") for i in ids if i in self.refused]


def test_what_the_output_has_no_form_for_fails_in_its_place(journal, tmp_path):
    """Failures stand in the order of reading with their inputs, and siblings are written."""
    sink = Picky(tmp_path / "out.jsonl")
    told = []

    publish(journal, source(), sink, {}, told.append)

    written = [json.loads(line) for line in (tmp_path / "out.jsonl").open()]
    failed = [json.loads(line) for line in sink.files()[1].open()]
    places = [int(each["id"].partition("/")[0]) for each in failed]
    assert [each["id"] for each in failed[:2]] == ["3", "5"]
    assert places == sorted([5, 1000, 1009, *range(3, NUM_ROWS, 10)])
    assert failed[1]["input"] == {"x": 5}
    assert {each["id"]: each["input"] for each in failed}["1009/1"] == {"x": 1009}
    assert len(written) == len(expected_ids()) - 3
    assert sum(each["y"] == 1009 for each in written) == 1
    (event,) = told
    assert (event.num_refused, event.failures) == (3, {"write: TypeError": 3})


def test_a_refusal_is_in_the_journal_with_its_event(journal, tmp_path):
    """The next export finds it there, and has nothing more to tell."""
    sink = Picky(tmp_path / "out.jsonl")
    told = []
    publish(journal, source(), sink, {}, told.append)
    sink.files()[0].unlink()

    publish(journal, source(), sink, {}, told.append)

    rows = {entry.seq: unpack(entry) for entry in journal.store.entries(failed_only=True)}
    assert [parse_event(line) for line in journal.store.events()] == told
    assert len(told) == 1
    assert (rows[1009].outputs, rows[1009].failures[0].root) == ([("1009/0", {"y": 1009})], "1009")
    assert (rows[5].outputs, rows[5].failures[0].root) == ([], None)
    assert len(rows) == NUM_ROWS // 10 + 3


def test_whoever_is_told_of_refusals_can_keep_the_output_back(journal, tmp_path):
    """Too many failures end the run before anybody sees its output."""
    sink = Picky(tmp_path / "out.jsonl")

    def refuse(event):
        raise RuntimeError("too many")

    with pytest.raises(RuntimeError, match="too many"):
        publish(journal, source(), sink, {"num_items": "1"}, refuse)

    assert not (tmp_path / "out.jsonl").exists()
    assert not is_published(journal, sink)
    assert "num_items" not in journal.store.facts()


@pytest.mark.parametrize("where", ["open", "write", "write_failures", "close"])
def test_a_disk_that_refuses_leaves_no_output_and_no_word_of_one(journal, tmp_path, where):
    """The sink's error reaches the caller, and once there is room the export is whole."""
    output = tmp_path / "out.jsonl"

    class Full(WriteJsonl):
        num_aborted = 0

        def abort(self):
            Full.num_aborted += 1
            return super().abort()

    def refuse(self, *args):
        raise SinkError("disk full")

    setattr(Full, where, refuse)
    with pytest.raises(SinkError, match="disk full"):
        publish(journal, source(), Full(output), {"num_items": "1"}, tell_nobody)
    left = output.exists(), PUBLISHED in journal.store.facts()
    publish(journal, source(), WriteJsonl(output), {}, tell_nobody)

    assert left == (False, False)
    assert Full.num_aborted == (where != "open")
    assert len(output.read_bytes().splitlines()) == len(expected_ids())


@pytest.mark.parametrize("number", [0, 1, 999, 1000, 1001, 2500])
def test_rows_come_by_the_thousand(number):
    """All of them come once and in order, and none of the pieces is empty or too large."""
    pieces = list(chunks(Entry(n, None, b"", False, b"") for n in range(number)))

    assert [each.seq for piece in pieces for each in piece] == list(range(number))
    assert all(0 < len(piece) <= 1000 for piece in pieces)


def test_large_rows_come_by_few():
    """A thousand rows of a megabyte are never in memory at once."""
    pieces = list(chunks(Entry(n, None, b"", False, bytes(1 << 20)) for n in range(20)))

    assert [len(piece) for piece in pieces] == [8, 8, 4]


def test_an_error_on_the_way_is_not_hidden_by_another(journal, tmp_path):
    """Where the output can not even be left in order, that is told beside what went wrong first."""

    class Broken(WriteJsonl):
        def write(self, ids, records):
            raise SinkError("disk full")

        def abort(self):
            raise SinkError("disk gone")

    with pytest.raises(SinkError, match="disk full") as told:
        publish(journal, source(), Broken(tmp_path / "out.jsonl"), {}, tell_nobody)

    assert told.value.__notes__ == ["and the output could not be left in order: disk gone"]
