"""``sage-dask why --run-dir``: the life of a record of a run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest


@pytest.fixture
def run(cli):
    """Lend a function that runs the pipeline a batch per record, in a folder."""
    return lambda *words: cli("run", "p.yaml", "--run-dir", "r", "--batch-size", "1", *words)


def test_a_record_is_told_from_the_journal_and_from_the_file(folder, cli, run):
    """A run with a journal, one without, and the file of events tell the same life."""
    run()
    of_journal = cli("why", "1", "--run-dir", "r")
    of_file = cli("why", "1", "--run-dir", "r/events.jsonl")

    assert of_journal.exit_code == of_file.exit_code == 0, of_journal.stderr
    assert of_journal.stdout.startswith("record '1' of pipeline 'shout': written\nStart 1 of")
    assert "as one of 1 record of batch 1." in of_journal.stdout
    assert of_journal.stdout.replace("committed at", "written at") == of_file.stdout
    assert "sage-dask why" not in of_journal.stdout


def test_a_failed_record_leads_to_its_input(folder, cli, run, texts):
    """Stage, error, and the file in which the record stands as it was read."""
    texts("a", "bad", "c")
    run()

    result = cli("why", "1", "--run-dir", "r")

    assert result.stdout.startswith("record '1' of pipeline 'shout': failed\n")
    assert "It failed in stage 'map', with ValueError: a bad one\n" in result.stdout
    assert result.stdout.endswith("Its input is in out.jsonl.failed.jsonl.\n")


def test_a_failed_record_without_a_journal_leads_to_its_input(folder, cli, run, texts):
    """The events have the error, too."""
    texts("a", "bad", "c")
    run("--no-durable")

    result = cli("why", "1", "--run-dir", "r")

    assert "  It failed in map: ValueError: a bad one\n" in result.stdout
    assert result.stdout.endswith("Its input is in out.jsonl.failed.jsonl.\n")


def test_a_run_that_was_interrupted_tells_what_was_under_way(folder, cli, run, texts):
    """Both starts of a record that the first one did not finish."""
    texts("a", "stop")
    run()
    before = cli("why", "1", "--run-dir", "r")
    run()

    after = cli("why", "1", "--run-dir", "r")

    assert before.stdout.startswith("record '1' of pipeline 'shout': not done\n")
    assert "It was not back when its start ended (KeyboardInterrupt), at +" in before.stdout
    assert after.stdout.count("It was not back") == 2
    assert "Start 2 of the run" in after.stdout
    assert "  Read again at +" in after.stdout


def test_a_run_that_was_killed_is_told_from_what_there_is(folder, cli, run):
    """A file that breaks off has no end; whoever reads it can not know whether it goes on."""
    run("--no-durable")
    events = Path("r/events.jsonl")
    lines = events.read_bytes().splitlines(keepends=True)
    events.write_bytes(b"".join(lines[:2]) + lines[2][:-9])

    result = cli("why", "0", "--run-dir", "r")

    assert result.exit_code == 0, result.stderr
    assert "the latest news of the run: under way, unless the run was killed." in result.stdout


def test_json_has_the_facts(folder, cli, run):
    """The parts of the latency add up to it."""
    run()

    life = json.loads(cli("why", "1", "--run-dir", "r", "--json").stdout)

    (passage,) = life["passages"]
    parts = sum(part["seconds"] for part in passage["breakdown"]["parts"])
    assert (life["record"], passage["end"], life["fate"]["written"]) == ("1", "written", ["1"])
    assert parts == pytest.approx(passage["latency_s"])


def test_an_id_that_is_not_there_suggests_others(folder, cli, run, texts):
    """Nothing is known, and the closest ids are named."""
    run()

    result = cli("why", "12", "--run-dir", "r")

    assert result.exit_code == 1
    assert "no record with id '12' was read; ids like it are '1', '2'" in result.stderr


def test_a_run_of_an_older_version_says_what_is_missing(folder, cli, run):
    """Its events count records, and name none."""
    run("--no-durable")
    events = Path("r/events.jsonl")
    lines = events.read_text().splitlines(keepends=True)
    events.write_text("".join(line for line in lines if '"batch_formed"' not in line))

    result = cli("why", "1", "--run-dir", "r")

    assert result.exit_code == 1
    assert "do not say which records were in a batch, since an older version" in result.stderr
    assert "it keeps no journal" in result.stderr


@pytest.mark.parametrize(
    "options", [(), ("--run-dir", "r", "--scheduler", "tcp://127.0.0.1:1")], ids=len
)
def test_one_of_record_and_task_is_asked_for(folder, cli, options):
    """Neither and both are refused, with what each takes."""
    result = cli("why", "1", *options)

    assert result.exit_code == 2
    assert "either --run-dir, with the id of a record, or --scheduler" in result.stderr
