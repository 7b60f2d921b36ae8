"""``sage-dask run``: what it prints, where, and how it exits."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from sage_dask.journal.lock import RunLock

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


def test_run_dir_keeps_the_run(folder, cli):
    """The run folder is named, and running again with it finds all done."""
    first = cli("run", "p.yaml", "--run-dir", "runs/one")
    second = cli("run", "p.yaml", "--run-dir", "runs/one")

    assert "in this process; run folder runs/one\n" in first.stderr
    assert "can not go on" not in first.stderr
    assert Path("runs/one/events.jsonl").is_file()
    assert second.exit_code == 0
    assert "start 2: done" in second.stdout


def test_without_a_run_folder_it_is_said_that_a_killed_run_is_lost(folder, cli):
    """Whoever starts a long run learns in time what would keep it."""
    result = cli("run", "p.yaml")

    assert "without --run-dir: should the run be killed, it can not go on\n" in result.stderr


def test_no_durable_keeps_events_alone(folder, cli):
    """Without a journal the folder must be new, as it holds one run."""
    first = cli("run", "p.yaml", "--run-dir", "r", "--no-durable")
    second = cli("run", "p.yaml", "--run-dir", "r", "--no-durable")

    assert first.exit_code == 0, first.stderr
    assert [path.name for path in Path("r").iterdir()] == ["events.jsonl"]
    assert second.exit_code == 1
    assert "already holds a run" in second.stderr


def test_failures_can_be_tried_again(folder, cli, texts):
    """Once their cause is mended, only the records that failed are run."""
    texts("a", "bad", "c")
    first = cli("run", "p.yaml", "--run-dir", "r")
    module = Path(f"{folder}.py")
    module.write_text(module.read_text().replace('record["text"] == "bad"', "False"))
    # A process imports a name only once.
    del sys.modules[folder]

    refused = cli("run", "p.yaml", "--run-dir", "r", "--retry-failed")
    words = ("--retry-failed", "--accept-changes", "map")
    accepted = cli("run", "p.yaml", "--run-dir", "r", *words)

    assert first.exit_code == 3
    assert refused.exit_code == 2
    # Before anything is started: nodes take seconds.
    assert refused.stderr.startswith("error: pipeline 'shout' is not as it was")
    assert "--accept-changes map" in refused.stderr
    assert accepted.exit_code == 0, accepted.stderr
    assert outputs() == ["A", "BAD", "C"]


def test_a_longer_input_is_refused_unless_it_is_to_extend_the_run(folder, cli, texts):
    """What was added is done when it is asked for, and before nothing is spent on it."""
    cli("run", "p.yaml", "--run-dir", "r")
    texts("a", "b", "c", "d")

    refused = cli("run", "p.yaml", "--run-dir", "r")
    extended = cli("run", "p.yaml", "--run-dir", "r", "--extend", "--follow")

    assert refused.exit_code == 2
    assert "--extend" in refused.stderr
    assert extended.exit_code == 0, extended.stderr
    assert outputs() == ["A", "B", "C", "D"]
    assert len(Path("r/growing.jsonl").read_text().splitlines()) == 5


@pytest.mark.parametrize("limit", ["0", "10%", "0.1"])
def test_too_many_failures_have_a_code_of_their_own(folder, cli, texts, limit):
    """A batch script can tell a broken input from a broken run, and goes on by itself or not."""
    texts("a", "bad", "c")

    result = cli("run", "p.yaml", "--run-dir", "r", "--max-errors", limit)

    assert result.exit_code == 6
    assert "1 of 3 records failed, more than max_errors=" in result.stderr
    assert result.stderr.endswith("go on with: sage-dask resume r\n")
    assert not Path("out.jsonl").exists()


def test_a_run_that_is_in_use_is_left_alone(folder, cli):
    """The message names the process that has the folder."""
    cli("run", "p.yaml", "--run-dir", "r")

    with RunLock(Path("r")):
        result = cli("run", "p.yaml", "--run-dir", "r")

    assert result.exit_code == 1
    assert f"'r' is in use by process {os.getpid()} on host" in result.stderr


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
        (["p.yaml", "--retry-failed"], "--retry-failed given, and the run keeps no journal"),
        (["p.yaml", "--follow", "--run-dir", "r", "--no-durable"], "leave out --no-durable"),
        (["p.yaml", "--reconnect", "--run-dir", "r"], "give its address as --scheduler"),
        (["p.yaml", "--reconnect", "--scheduler", "tcp://127.0.0.1:1"], "add --run-dir DIR"),
        (["p.yaml", "--max-errors", "few"], "such as 5% or 0.05"),
        (["p.yaml", "--max-errors", "100%"], "max_errors=1.0"),
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
        (["--max-errors", "7"], {"ordered": True, "max_errors": 7}),
        (["--max-errors", "5%"], {"ordered": True, "max_errors": 0.05}),
        (["--max-stall", "60"], {"ordered": True, "max_stall_s": 60}),
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


ASKING = """\


from sage_dask import Operator


class Asking(Operator):
    endpoints = ("http://127.0.0.1:1/v1",)
    price = {"prompt": 2.0, "completion": 10.0}

    def process_batch(self, records):
        raise KeyboardInterrupt("a dry run sends nothing")

    def preview(self, record):
        return {"prompt_tokens": 1_000, "max_completion_tokens": 500}


asking = (
    Pipeline("asking")
    .source(FromIterable([{"n": n} for n in range(100)]))
    .stage("ask", Asking())
    .sink(Collect())
)
"""


@pytest.fixture
def asking(folder):
    """Return the name of a pipeline that would send requests."""
    with Path(f"{folder}.py").open("a") as file:
        file.write(ASKING)
    return f"{folder}:asking"


def test_a_dry_run_tells_what_would_be_spent(asking, cli):
    """Requests, tokens, cost and time stand on stdout, and nothing is run or sent."""
    result = cli("run", asking, "--dry-run", "--sample", "5", "--rate", "1000")

    assert result.exit_code == 0, result.stderr
    assert "  sample      the first 5 of 100 records\n" in result.stdout
    assert "  tokens      100k to 150k\n" in result.stdout
    assert "  cost        0.200 to 0.700\n" in result.stdout
    assert "  time        1:40 to 2:30 at 1,000 tok/s\n" in result.stdout


def test_a_dry_run_as_json(asking, cli):
    """Programs get the same numbers as one document."""
    result = cli("run", asking, "--dry-run", "--json", "--seats", "10", "--latency", "2")

    found = json.loads(result.stdout)
    assert found["tokens"] == [100_000, 150_000]
    assert found["seconds"] == [20, 20]


def test_a_dry_run_without_requests_is_a_plan_error(folder, cli):
    """A pipeline that sends nothing has nothing to estimate, and its output stays unmade."""
    result = cli("run", "p.yaml", "--dry-run")

    assert result.exit_code == 2
    assert "sends no requests" in result.stderr
    assert not Path("out.jsonl").exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--sample", "5"], "--sample given, but only --dry-run looks at that"),
        (["--dry-run", "--seats", "5"], "go together"),
        (["--max-cost", "0"], "--max-cost"),
        (["--max-tokens", "0"], "--max-tokens"),
    ],
)
def test_mistakes_about_spending_are_told_before_any_work(asking, cli, words, says):
    """What contradicts itself exits with 2."""
    result = cli("run", asking, *words)

    assert result.exit_code == 2
    assert says in result.stderr


SPENDING = """\


from sage_dask import Operator
from sage_dask.endpoint.context import current


class Spending(Operator):
    def process_batch(self, records):
        current().usage.prompt_tokens += 10 * len(records)
        return [dict(record) for record in records]
"""


def test_a_budget_that_is_reached_exits_with_4(folder, cli, texts):
    """The run stops in good order, says what was spent and how to go on, and keeps its output."""
    with Path(f"{folder}.py").open("a") as file:
        file.write(SPENDING)
    text = Path("p.yaml").read_text()
    Path("p.yaml").write_text(
        text.replace("sink:", f"  - '{folder}:Spending': {{}}\nsink:")
        + "run: {batch_size: 1, max_tokens: 20}\n"
    )

    result = cli("run", "p.yaml")

    assert result.exit_code == 4, result.stderr
    assert ": budget reached\n" in result.stdout
    assert "stopped: max_tokens=20 is reached: 20 tokens spent on 2 of 3 records" in result.stderr
    assert "2 records are in 'out.jsonl.partial'" in result.stderr
    assert not Path("out.jsonl").exists()
