"""A run as anybody can read it."""

from __future__ import annotations

import pytest

from sage_dask import Collect, FromIterable, Pipeline
from sage_dask.durable.run_reading import reading_run
from sage_dask.errors import PlanError
from sage_dask.event_file import read_events
from sage_dask.events import BatchFormed, JobStarted
from sage_dask.journal.journal import Journal


@pytest.fixture
def folder(tmp_path):
    """Lend the folder of a run of three records, each with a journal's row."""
    source = FromIterable([{"id": each} for each in "abc"], id="id")
    Pipeline("p").source(source).map(dict).sink(Collect()).run(run_dir=tmp_path)
    return tmp_path


def test_journal_and_file_hold_the_same_events(folder):
    """A journal is read even where a file stands beside it; a file by itself is a run, too."""
    file = folder / "events.jsonl"
    kept = list(read_events(file))

    with reading_run(file) as run:
        assert list(run.events()) == kept
        assert (run.rows(["a"]), run.is_held) == (None, None)
    file.unlink()
    with reading_run(folder) as run:
        events = list(run.events())

    assert events == kept
    assert isinstance(events[0], JobStarted)
    ids = [each for event in events if isinstance(event, BatchFormed) for each in event.ids]
    assert ids == ["a", "b", "c"]


def test_rows_are_found_by_id(folder):
    """Those that are there, and no others."""
    with reading_run(folder) as run:
        rows = run.rows(["b", "z"])

    assert {record_id: row.seq for record_id, row in rows.items()} == {"b": 1}


def test_a_run_that_goes_on_is_held(folder):
    """Reading does not take the folder."""
    with reading_run(folder) as run:
        before = run.is_held
    journal = Journal(folder)
    try:
        with reading_run(folder) as run:
            assert (before, run.is_held) == (False, True)
            assert list(run.events())
    finally:
        journal.close()


def test_what_is_no_run_is_told(tmp_path):
    """No file, and a file without an event."""
    with reading_run(tmp_path) as run, pytest.raises(PlanError, match="there are no events at"):
        run.events()
    (tmp_path / "events.jsonl").touch()
    with reading_run(tmp_path) as run, pytest.raises(PlanError, match="holds no event yet"):
        run.events()
