"""What a run left behind, looked at without sage_dask: files and tables as they lie there."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path


def faults(folder: Path, num_records: int, unlucky: Iterable[int]) -> list[str]:
    """Return what is wrong with a finished run, in words; nothing is as it should be.

    Args:
        folder: Holds ``output.jsonl``, what failed of it, and the run's folder ``run``.
        num_records: That the input had, ``k0`` and so on, in this order.
        unlucky: Numbers of those that must have failed.
    """
    failed = set(unlucky)
    found: list[str] = []
    rows = _rows(folder / "output.jsonl")
    wanted = [number for number in range(num_records) if number not in failed]
    _compare(found, "ids of the output", [row["id"] for row in rows], [f"k{n}" for n in wanted])
    for row in rows:
        answer = f"question {row['n']}"
        if row["id"] != f"k{row['n']}" or row["answer"] != answer or len(row) != 3:
            found.append(f"wrong row: {row}")
    failures = [row["id"] for row in _rows(folder / "output.jsonl.failed.jsonl")]
    _compare(found, "ids of the failed file", failures, [f"k{n}" for n in sorted(failed)])
    _compare(found, "files", _names(folder), _FILES)
    _compare(found, "the run's files", _names(folder / "run"), _RUN_FILES)
    _look_at_journal(found, folder / "run" / "journal.db", num_records, len(failed))
    return found


_FILES = ["input.jsonl", "output.jsonl", "output.jsonl.failed.jsonl", "run"]
_RUN_FILES = ["events.jsonl", "journal.db", "lock"]


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def _rows(path: Path) -> list[dict]:
    with path.open() as lines:
        return [json.loads(line) for line in lines]


def _look_at_journal(found: list[str], path: Path, num_records: int, num_failed: int) -> None:
    """Check that the journal has each record once, and that its events add up."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        (state,) = db.execute("PRAGMA integrity_check").fetchone()
        seqs = [seq for (seq,) in db.execute("SELECT seq FROM entries ORDER BY seq")]
        ids = Counter(entry_id for (entry_id,) in db.execute("SELECT id FROM entries"))
        events = [json.loads(line) for (line,) in db.execute("SELECT line FROM events")]
    _compare(found, "the journal's state", state, "ok")
    _compare(found, "places in the journal", seqs, list(range(num_records)))
    _compare(found, "ids that the journal has more than once", max(ids.values()), 1)
    batches = [event for event in events if event["kind"] == "batch_committed"]
    _compare(found, "records read", sum(event["num_read"] for event in batches), num_records)
    _compare(found, "records failed", sum(event["num_failed"] for event in batches), num_failed)
    written = sum(event["num_written"] for event in batches)
    _compare(found, "records written", written, num_records - num_failed)


def _compare(found: list[str], what: str, value: object, wanted: object) -> None:
    if value != wanted:
        found.append(f"{what}: {_short(value)}, wanted {_short(wanted)}")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 300 else f"{text[:300]}... ({len(text)} characters)"
