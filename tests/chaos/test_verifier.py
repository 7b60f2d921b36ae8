"""The verifier finds what a broken run would leave."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing

import pytest

from sage_dask import Pipeline
from sage_dask.operators import ReadJsonl, WriteJsonl
from tests.chaos.verifier import faults

_NUM_RECORDS = 20
_UNLUCKY = [0, 7]


def answered(record):
    """Return what the chaos' pipeline makes of a record."""
    if record["n"] in _UNLUCKY:
        raise ValueError("unlucky")
    return {"n": record["n"], "answer": f"question {record['n']}"}


@pytest.fixture
def folder(tmp_path):
    """Lend the folder of a run that is done."""
    rows = [json.dumps({"key": f"k{number}", "n": number}) + "\n" for number in range(_NUM_RECORDS)]
    (tmp_path / "input.jsonl").write_text("".join(rows))
    source = ReadJsonl(tmp_path / "input.jsonl", id="key")
    pipeline = Pipeline("done").source(source).map(answered)
    pipeline.sink(WriteJsonl(tmp_path / "output.jsonl")).run(run_dir=tmp_path / "run", batch_size=4)
    return tmp_path


def test_a_sound_run_has_no_faults(folder):
    """What a run leaves that nothing befell is as it should be."""
    assert faults(folder, _NUM_RECORDS, _UNLUCKY) == []


def _with_lines(change):
    """Return what changes the lines of the output."""

    def damage(folder):
        path = folder / "output.jsonl"
        path.write_text("".join(change(path.read_text().splitlines(keepends=True))))

    return damage


def _in_journal(statement):
    """Return what changes the journal."""

    def damage(folder):
        with closing(sqlite3.connect(folder / "run" / "journal.db")) as db:
            db.execute(statement)
            db.commit()

    return damage


_DAMAGES = {
    "lost": _with_lines(lambda lines: lines[:5] + lines[6:]),
    "twice": _with_lines(lambda lines: [*lines[:5], lines[4], *lines[5:]]),
    "out of order": _with_lines(lambda lines: [lines[1], lines[0], *lines[2:]]),
    "wrong": _with_lines(lambda lines: [lines[0].replace("question", "answer"), *lines[1:]]),
    "failure lost": lambda folder: (folder / "output.jsonl.failed.jsonl").write_text(""),
    "partial left": lambda folder: (folder / "output.jsonl.partial").touch(),
    "journal open": lambda folder: (folder / "run" / "journal.db-wal").touch(),
    "entry lost": _in_journal("DELETE FROM entries WHERE seq = 3"),
    "events lost": _in_journal("DELETE FROM events WHERE seq = 2"),
}


@pytest.mark.parametrize("damage", _DAMAGES.values(), ids=_DAMAGES.keys())
def test_damage_is_found(folder, damage):
    """Each thing that a crash could do to a run is told."""
    damage(folder)

    assert faults(folder, _NUM_RECORDS, _UNLUCKY)
