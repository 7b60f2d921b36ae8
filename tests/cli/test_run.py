"""``sage-dask run``: what it prints, where, and how it exits."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

STOPS_AT_2 = """\
from sage_dask import StopRun


def shout(record):
    if record["id"] >= 2:
        raise StopRun("no more today")
    return record
"""

SPY = """\


import json


class SpyPipeline(Pipeline):
    def run(self, on=None, *, run_dir, observer, **told):
        with open("told.json", "w") as file:
            json.dump(told, file)
        return super().run(on, **told)


spy = SpyPipeline("spy", declared.input, declared.stages, declared.output)
"""


def outputs():
    """Return the texts that were written."""
    return [json.loads(line)["text"] for line in Path("out.jsonl").read_text().splitlines()]


def test_run_writes_the_output_and_prints_the_report(folder, cli):
    """A run that did all its work exits with 0, its report alone on stdout."""
    result = cli("run", "p.yaml")

    assert result.exit_code == 0, result.stderr
    assert outputs() == ["A", "B", "C"]
    assert result.stdout.startswith("pipeline shout, job ")
    assert "in 3   out 3   failed 0" in result.stdout
    assert result.stderr.startswith("shout: in.jsonl -> out.jsonl\nin this process\n")
    assert "3 done" in result.stderr


def test_failed_records_exit_with_3_and_say_where_they_are(folder, cli, texts):
    """A run that is done but for some records names the failed file."""
    texts("a", "bad", "c")

    result = cli("run", "p.yaml")

    assert result.exit_code == 3
    assert outputs() == ["A", "C"]
    assert result.stderr.endswith("failed: 1 record; see 'out.jsonl.failed.jsonl'\n")
    assert Path("out.jsonl.failed.jsonl").exists()


def test_json_report_stands_alone_on_stdout(folder, cli, texts):
    """Standard output is one JSON document, though everything failed and figures are missing."""
    texts("bad")

    result = cli("run", "p.yaml", "--json")

    report = json.loads(result.stdout)
    assert (report["num_read"], report["num_failed"]) == (1, 1)
    assert report["latency"]["mean_s"] is None
    assert result.exit_code == 3


def test_quiet_prints_nothing(folder, cli):
    """A quiet run that went well says nothing at all."""
    result = cli("run", "p.yaml", "--quiet")

    assert (result.exit_code, result.output) == (0, "")


def test_run_dir_keeps_the_events(folder, cli):
    """The run folder is named, and can not be used a second time."""
    first = cli("run", "p.yaml", "--run-dir", "runs/one")
    second = cli("run", "p.yaml", "--run-dir", "runs/one")

    assert "in this process; run folder runs/one\n" in first.stderr
    assert Path("runs/one/events.jsonl").is_file()
    assert second.exit_code == 1
    assert "already holds a run" in second.stderr


@pytest.mark.parametrize("target", ["{}:declared", "{}:make", "{}.py:declared", "{}.py:make"])
def test_python_objects_run_as_files_do(folder, cli, target):
    """A pipeline, or a function that returns one, is found in a module and in a file."""
    result = cli("run", target.format(folder), "--json")

    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["pipeline"] == "declared"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["p.yml"], "can not be read"),
        (["rag"], "does not name a pipeline"),
        (["no_such_module:rag"], "No module named 'no_such_module'"),
        (["no_such.py:rag"], "'no_such.py' does not exist"),
        (["{}:number"], "is int, and a sage_dask.Pipeline is wanted"),
        (["{}.py:maki"], "did you mean 'make'?"),
        (["p.yaml", "--threads", "2"], "add --nodes"),
        (["p.yaml", "--policy", "dusk"], "did you mean 'dask'?"),
        (["p.yaml", "--nodes", "1", "--resources", "LLM"], "is not NAME=AMOUNT"),
        (["p.yaml", "--nodes", "1", "--scheduler", "tcp://127.0.0.1:1"], "one or the other"),
    ],
)
def test_mistakes_are_plan_errors(folder, cli, words, says):
    """What the command line gets wrong exits with 2 and one paragraph, before any work."""
    result = cli("run", *(word.format(folder) for word in words))

    assert result.exit_code == 2
    assert result.stderr.startswith("error: ")
    assert says in result.stderr
    assert result.stderr.count("\n") == 1
    assert not Path("out.jsonl").exists()


def test_missing_input_is_found_before_work(folder, cli):
    """A missing file exits with 2, since nothing was spent."""
    Path("in.jsonl").unlink()

    result = cli("run", "p.yaml")

    assert result.exit_code == 2
    assert "'in.jsonl' does not exist" in result.stderr


def test_a_run_that_stops_exits_with_1(folder, cli):
    """A run that an operator stops exits with 1 and says what was kept."""
    Path(f"{folder}.py").write_text(STOPS_AT_2)
    Path("in.jsonl").write_text("".join(f'{{"id": {n}, "text": "t"}}\n' for n in range(8)))

    result = cli("run", "p.yaml", "--batch-size", "1")

    assert result.exit_code == 1
    assert "error: no more today; 2 records are in 'out.jsonl.partial'" in result.stderr


def test_interrupt_exits_with_130_and_says_what_was_kept(folder, cli, texts):
    """Ctrl-C leaves whole records in the partial file and names it."""
    texts("a", "b", "stop")

    result = cli("run", "p.yaml", "--batch-size", "1")

    assert result.exit_code == 130
    assert result.stderr.endswith("interrupted; 2 records are in 'out.jsonl.partial'\n")
    assert len(Path("out.jsonl.partial").read_text().splitlines()) == 2


def test_the_command_line_overrides_the_file(folder, cli):
    """The run section holds where the command line is silent, and yields where it speaks."""
    with Path("p.yaml").open("a") as file:
        file.write("run: {batch_size: 1, policy: dask, weight: 2}\n")

    silent = cli("run", "p.yaml")
    spoken = cli("run", "p.yaml", "--policy", "spread", "--run-dir", "r")

    assert silent.exit_code == 2
    assert "'weight' given with policy 'dask'" in silent.stderr
    assert spoken.exit_code == 0, spoken.stderr
    assert Path("r/events.jsonl").read_text().count('"batch_committed"') == 3


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], {"ordered": True}),
        (["--as-completed"], {"ordered": False}),
        (["--target-task-ms", "500"], {"ordered": True, "target_task_s": 0.5}),
        (["--batch-size", "3"], {"ordered": True, "batch_size": 3}),
    ],
)
def test_options_reach_the_run(folder, cli, words, told):
    """What the command line says is what the pipeline is run with, in the library's units."""
    with Path(f"{folder}.py").open("a") as file:
        file.write(SPY)

    result = cli("run", f"{folder}:spy", *words)

    assert result.exit_code == 0, result.stderr
    assert json.loads(Path("told.json").read_text()) == told


@pytest.mark.parametrize("option", ["--target-task-ms", "--batch-size", "--nodes"])
def test_amounts_must_be_positive(folder, cli, option):
    """A zero where it means nothing is a usage error that names the option."""
    result = cli("run", "p.yaml", option, "0")

    assert result.exit_code == 2
    assert option in result.stderr


@pytest.mark.cluster
def test_two_nodes_give_the_same_output(folder, cli, texts):
    """On nodes, functions beside the file arrive, and output and exit code are the same."""
    texts("a", "bad", "c")

    result = cli("run", "p.yaml", "--nodes", "2", "--json")

    assert result.exit_code == 3, result.stderr
    assert outputs() == ["A", "C"]
    assert json.loads(result.stdout)["runner"] == "on 2 Dask nodes, 2 threads"
    assert "on 2 nodes with 1 thread each; dashboard http://127.0.0.1:" in result.stderr
