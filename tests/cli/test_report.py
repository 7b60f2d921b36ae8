"""``sage-dask report``: a run counted again from its events."""

from __future__ import annotations

import json
from pathlib import Path

import pytest


@pytest.fixture
def run_dir(folder, cli):
    """Lend the folder of a run of three batches, which keeps its events in a file alone."""
    words = ("--batch-size", "1", "--run-dir", "r", "--no-durable")
    assert cli("run", "p.yaml", *words).exit_code == 0
    return Path("r")


def test_report_is_what_the_run_printed(folder, cli):
    """Folder and events file give the figures that the run itself gave."""
    ran = cli("run", "p.yaml", "--run-dir", "r", "--json")

    from_folder, from_file = cli("report", "r", "--json"), cli("report", "r/events.jsonl", "--json")
    Path("r/events.jsonl").unlink()
    from_journal = cli("report", "r", "--json")

    assert from_folder.stdout == from_file.stdout == from_journal.stdout == ran.stdout
    assert from_folder.stderr == ""


def test_a_killed_run_is_reported_as_far_as_it_came(run_dir, cli):
    """A file that breaks off within its third batch reports two, and says it is unfinished."""
    events = run_dir / "events.jsonl"
    lines = events.read_bytes().splitlines(keepends=True)
    events.write_bytes(b"".join(lines[:3]) + lines[3][:-20])

    result = cli("report", "r")

    assert result.exit_code == 0
    assert "in 3   out 3" not in result.stdout
    assert "in 2   out 2   failed 0" in result.stdout
    assert result.stderr.startswith("unfinished: ")


def test_the_journal_is_reported_whatever_the_file_says(folder, cli, texts):
    """A run that was stopped, and one that was killed, tell all of their starts."""
    texts("a", "b", "stop")
    cli("run", "p.yaml", "--run-dir", "r", "--batch-size", "1")
    texts("a", "b", "stop")
    cli("run", "p.yaml", "--run-dir", "r", "--batch-size", "1")
    # A kill leaves the file as the start before had written it, or none.
    Path("r/events.jsonl").write_text("")

    result = cli("report", "r")

    assert result.exit_code == 0, result.stderr
    assert "start 2: KeyboardInterrupt" in result.stdout
    assert "in 2   out 2   failed 0" in result.stdout


def test_json_of_a_run_without_batches_has_nulls(run_dir, cli):
    """Figures that were not measured are null, which every JSON reader takes."""
    events = run_dir / "events.jsonl"
    events.write_bytes(events.read_bytes().splitlines(keepends=True)[0])

    result = cli("report", "r", "--json")

    report = json.loads(result.stdout)
    assert (report["outcome"], report["num_read"]) == ("running", 0)
    assert report["latency"]["p99_s"] is None


@pytest.mark.parametrize(
    ("content", "code", "says"),
    [
        (None, 2, "no events at"),
        ("", 2, "holds no event yet"),
        ('{"kind": "job_sta', 2, "holds no event yet"),
        ('{"id": 1}\n', 1, "line 1: not an event"),
        ("[1]\n", 1, "line 1: not an event"),
    ],
)
def test_what_is_no_run_is_refused(folder, cli, content, code, says):
    """A missing, an empty, a torn and a foreign file are told apart, without a traceback."""
    if content is not None:
        Path("events.jsonl").write_text(content)

    result = cli("report", "events.jsonl")

    assert result.exit_code == code
    assert says in result.stderr
