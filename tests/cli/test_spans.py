"""``sage-dask spans``: a run for OpenTelemetry."""

from __future__ import annotations

import json
from pathlib import Path

import pytest


@pytest.fixture
def run_dir(folder, cli):
    """Lend the folder of a run of three batches."""
    assert cli("run", "p.yaml", "--run-dir", "r", "--batch-size", "1").exit_code == 0
    return "r"


def spans_in(path):
    """Return the spans of a file of OTLP/JSON, and the name of their service."""
    (line,) = Path(path).read_text().splitlines()
    (resource,) = json.loads(line)["resourceSpans"]
    attributes = {each["key"]: each["value"] for each in resource["resource"]["attributes"]}
    return resource["scopeSpans"][0]["spans"], attributes["service.name"]["stringValue"]


def test_a_run_becomes_a_file(run_dir, cli):
    """A span for the job, one for each batch, and in them what was measured."""
    result = cli("spans", run_dir, "--out", "s.jsonl")

    spans, service = spans_in("s.jsonl")
    names = [span["name"] for span in spans]
    assert result.exit_code == 0, result.stderr
    assert result.stderr == f"{len(spans)} spans in s.jsonl\n"
    assert service == "shout"
    assert names.count("batch") == names.count("stage map") == 3
    assert names[-1] == "job shout"


def test_exporting_twice_makes_the_same_file(run_dir, cli):
    """Also from the file of events alone."""
    cli("spans", run_dir, "--out", "one.jsonl")
    cli("spans", "r/events.jsonl", "--out", "two.jsonl")

    assert Path("one.jsonl").read_bytes() == Path("two.jsonl").read_bytes()


def test_batches_are_left_out_on_demand(run_dir, cli):
    """One in two of three are two; the service may have a name of its own."""
    cli("spans", run_dir, "--out", "s.jsonl", "--every", "2", "--service", "night")

    spans, service = spans_in("s.jsonl")
    assert sum(span["name"] == "batch" for span in spans) == 2
    assert service == "night"


@pytest.mark.parametrize("options", [(), ("--otlp", "http://127.0.0.1:1", "--out", "s")], ids=len)
def test_one_place_to_send_them_is_named(folder, cli, options):
    """Neither and both are refused."""
    result = cli("spans", "r", *options)

    assert result.exit_code == 2
    assert "give either --otlp or --out" in result.stderr


def test_what_is_no_run_is_refused(folder, cli):
    """As by every command that reads a run; no file is left."""
    result = cli("spans", "r", "--out", "s.jsonl")

    assert result.exit_code == 2
    assert "there are no events at 'r'" in result.stderr
    assert not list(Path.cwd().glob("s.jsonl*"))


def test_a_file_without_a_name_is_told(run_dir, cli):
    """As a script makes it whose variable is empty."""
    result = cli("spans", run_dir, "--out", "")

    assert result.exit_code == 1
    assert "spans can not be written to '.'" in result.stderr
    assert "Traceback" not in result.stderr
