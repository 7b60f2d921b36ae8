"""What a journal has of a few records."""

from __future__ import annotations

import pytest

from sage_dask import Collect, FromIterable, Pipeline
from sage_dask.durable.known_rows import known_rows
from sage_dask.journal.journal import Journal


@pytest.fixture
def folder(tmp_path):
    """Lend the folder of a run of three records, each with a journal's row."""
    source = FromIterable([{"id": each} for each in "abc"], id="id")
    Pipeline("p").source(source).map(dict).sink(Collect()).run(run_dir=tmp_path)
    return tmp_path


def test_rows_are_found_by_id(folder):
    """Those that are there, and no others."""
    rows = known_rows(folder, ["b", "z"])

    assert {record_id: row.seq for record_id, row in rows.items()} == {"b": 1}
    assert [output_id for output_id, _ in rows["b"].outputs] == ["b"]


def test_a_run_that_goes_on_can_be_asked(folder):
    """Reading neither takes the folder nor waits for it."""
    journal = Journal(folder)
    try:
        assert known_rows(folder, ["c"])["c"].seq == 2
    finally:
        journal.close()


def test_without_a_journal_nothing_can_be_asked(folder):
    """Neither a file of events nor a folder that is not there has one."""
    assert known_rows(folder / "events.jsonl", ["a"]) is None
    assert known_rows(folder / "nowhere", ["a"]) is None
