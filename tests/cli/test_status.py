"""``sage-dask status``: one screen, for people and for programs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sage_dask.cli.status import lines_of, next_step
from sage_dask.durable.run_status import OutputFile, RunStatus
from sage_dask.journal.lock import Holder
from sage_dask.launch import Launch

LAUNCH = Launch("p.yaml", "/work")


def screen(**facts):
    """Return what is printed of a status."""
    return "\n".join(lines_of(RunStatus(**{"state": "done", **facts}), "r"))


def test_a_run_that_is_done(folder, cli):
    """State, records, starts, and the output as it was published."""
    cli("run", "p.yaml", "--run-dir", "r")

    result = cli("status", "r", "--verify")

    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith("r: done\n  records     3 of 3 done\n  pipeline    shout\n")
    assert "  starts      1, the last on 20" in result.stdout
    assert "  output      out.jsonl, 69 bytes, as published\n" in result.stdout
    assert "next" not in result.stdout


def test_a_run_with_failures_says_how_to_try_them_again(folder, cli, texts):
    """Failures stand by stage and error, and the next step mends them."""
    texts("a", "bad", "c")
    cli("run", "p.yaml", "--run-dir", "r")

    result = cli("status", "r")

    assert "  failed      1 record\n              1 x map: ValueError\n" in result.stdout
    assert "  next        sage-dask resume r --retry-failed  (once" in result.stdout


def test_a_run_that_was_interrupted_says_how_it_goes_on(folder, cli, texts):
    """Who ended it, what is safe, and the command."""
    texts("a", "stop")
    cli("run", "p.yaml", "--run-dir", "r", "--batch-size", "1")

    result = cli("status", "r")

    assert result.stdout.startswith("r: interrupted (Ctrl-C)\n  records     1 done\n")
    assert "  output      out.jsonl, not yet published\n" in result.stdout
    assert result.stdout.endswith("  next        sage-dask resume r\n")


def test_json_has_everything(folder, cli):
    """Programs get the same, and the next step too."""
    cli("run", "p.yaml", "--run-dir", "r")

    found = json.loads(cli("status", "r", "--json").stdout)

    assert (found["state"], found["num_done"], found["num_items"]) == ("done", 3, 3)
    assert found["files"][0] == {"path": "out.jsonl", "size": 69, "change": ""}
    assert found["launch"]["folder"] == str(Path.cwd())
    assert found["next"] == ""


def test_what_is_no_run_is_told(folder, cli):
    """A folder that is not there exits with 1, and says which to give."""
    result = cli("status", "r")

    assert result.exit_code == 1
    assert "run folder 'r' does not exist; give the folder" in result.stderr


def test_a_run_that_goes_on_names_its_process():
    """Who runs it, where and since when; there is nothing to do."""
    text = screen(state="running", holder=Holder(7, "gpu-0", "2026-01-01"), launch=LAUNCH)

    assert text.startswith("r: running, as process 7 on gpu-0 since 2026-01-01\n")
    assert "next" not in text


def test_failures_fit_on_the_screen():
    """The five most frequent kinds stand there, and how many more there are."""
    failures = {f"stage: E{number}": number for number in range(1, 9)}

    text = screen(num_failed=36, failures=failures)

    assert [line.strip() for line in text.splitlines() if " x " in line] == [
        f"{number} x stage: E{number}" for number in (8, 7, 6, 5, 4)
    ]
    assert "and 3 other kinds" in text


@pytest.mark.parametrize(
    ("facts", "step"),
    [
        ({"state": "running"}, ""),
        ({"state": "done"}, ""),
        ({"state": "done", "num_failed": 1}, "sage-dask resume 'my run' --retry-failed"),
        ({"state": "failed"}, "sage-dask resume 'my run'"),
        ({"state": "interrupted"}, "sage-dask resume 'my run'"),
        ({"state": "stopped"}, "sage-dask resume 'my run', with a higher limit"),
        (
            {"state": "done", "files": (OutputFile("out", 1, "is not there"),)},
            "sage-dask resume 'my run'  (writes the output again)",
        ),
    ],
)
def test_the_next_step_fits_the_state(facts, step):
    """What is to be done is a command to paste, or nothing."""
    found = next_step(RunStatus(**facts, launch=LAUNCH), "my run")

    assert found.startswith(step)
    assert bool(found) == bool(step)


def test_a_run_of_a_program_is_run_by_it_again():
    """Without a command the words say what to do in the program."""
    failed, done = RunStatus("failed"), RunStatus("done", num_failed=1)

    assert next_step(failed, "r") == "run the program again that began it, with run_dir='r'"
    assert "with run_dir='r' and retry_failed=True" in next_step(done, "r")
