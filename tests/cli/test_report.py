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
    commits = [n for n, line in enumerate(lines) if b"batch_committed" in line]
    third = commits[2]
    events.write_bytes(b"".join(lines[:third]) + lines[third][:-20])

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


def test_what_was_typed_is_in_the_report(folder, cli):
    """The command that made a run is in its events, and so in every form of its report."""
    cli("run", "p.yaml", "--run-dir", "r", "--batch-size", "1")

    result = cli("report", "r")

    (line,) = [line for line in result.stdout.splitlines() if line.startswith("  command  ")]
    assert line.endswith(" run p.yaml --run-dir r --batch-size 1")


def test_html_is_one_file_that_is_written_over(run_dir, cli):
    """The page takes the place of an older one; what is printed besides is where it is."""
    Path("r.html").write_text("older")

    result = cli("report", "r", "--html", "r.html")

    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "written: r.html\n")
    assert Path("r.html").read_text().startswith("<!DOCTYPE html>")


def test_html_goes_with_json(run_dir, cli):
    """A page is a file, so standard output is free for another form."""
    result = cli("report", "r", "--html", "r.html", "--json")

    assert json.loads(result.stdout)["num_written"] == 3
    assert Path("r.html").exists()


def test_a_page_that_can_not_be_written_is_an_error(run_dir, cli):
    """The message names the file and the reason, without a traceback."""
    result = cli("report", "r", "--html", "none/r.html")

    assert result.exit_code == 1
    assert "'none/r.html' (No such file or directory)" in result.stderr


def test_latex_has_the_tables_of_a_paper(run_dir, cli):
    """Summary, categories of the latency, and stages; the command stands above them."""
    result = cli("report", "r", "--latex")

    assert result.stdout.startswith("% sage-dask report r --latex\n")
    assert result.stdout.count(r"\toprule") == 3
    assert "Latency by category" in result.stdout


def test_json_and_latex_are_refused_together(run_dir, cli):
    """Two forms on one output would be neither."""
    result = cli("report", "r", "--json", "--latex")

    assert result.exit_code == 2
    assert "give one of them" in result.stderr


def test_two_runs_are_compared_in_every_form(run_dir, cli):
    """Text begins with a sentence; JSON, LaTeX and HTML have the same figures."""
    cli("run", "p.yaml", "--run-dir", "s", "--no-durable")

    text = cli("report", "r", "--against", "s")
    plain = cli("report", "r", "--against", "s/events.jsonl", "--json")
    latex = cli("report", "r", "--against", "s", "--latex")
    page = cli("report", "r", "--against", "s", "--html", "c.html")

    assert text.stdout.startswith("r against s, one run each: ")
    assert json.loads(plain.stdout)["against"]["name"] == "s/events.jsonl"
    assert "% sage-dask report r --against s --latex" in latex.stdout
    assert (page.exit_code, page.stdout) == (0, "")
    assert "r against s" in Path("c.html").read_text()


def test_a_run_to_compare_with_must_be_there(run_dir, cli):
    """A second folder that does not exist is refused as the first would be."""
    result = cli("report", "r", "--against", "none")

    assert result.exit_code == 2
    assert "there are no events at 'none'" in result.stderr


def test_rows_are_explained_without_a_run(cli):
    """Each part and each category with its meaning; no folder is needed for that."""
    result = cli("report", "--explain")

    assert result.exit_code == 0
    assert "  gate                 waiting for a gate" in result.stdout
    assert "    server queue       in the server's queue" in result.stdout
    assert "  queue wait           waiting for nodes" in result.stdout
