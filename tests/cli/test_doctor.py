"""``sage-dask doctor``: from the command line to lines that help."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from sage_dask.cli.doctor import lines_of
from sage_dask.cluster import LocalNodes
from sage_dask.cluster.timed_server import TimedServer
from sage_dask.doctor.finding import fail, ok

MODELS = """\
pipeline: rag
source:
  read_jsonl: {{path: in.jsonl, id: id}}
stages:
  - generate: {{endpoint: "{endpoint}", model: {model}, prompt: text, api_key_env: RAG_KEY}}
    resources: {{LLM: {amount}}}
    gates: {{llm: 1}}
sink:
  write_jsonl: {{path: out.jsonl}}
run:
  gates: {{llm: {slots}}}
"""


@pytest.fixture(scope="module")
def nodes():
    """Lend one node, which has the key that this process has not."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAG_KEY", "sk-0123456789abcdef")
        with LocalNodes(1, threads=2, resources={"LLM": 2}, memory_limit="1GiB") as nodes:
            nodes.scheduling.start()
            yield nodes


@pytest.fixture
def server():
    """Lend a model server that imitates one."""
    with TimedServer(latency_s=0.01) as server:
        yield server


@pytest.fixture
def free_port():
    """Lend a port at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as held:
        return held.getsockname()[1]


def write_pipeline(endpoint, *, model="timed", amount=1, slots=4):
    """Write a pipeline that asks a model server."""
    text = MODELS.format(endpoint=endpoint, model=model, amount=amount, slots=slots)
    Path("rag.yaml").write_text(text)


def test_bare_it_examines_this_machine(cli):
    """Every line has a mark, and the last one counts them."""
    result = cli("doctor")

    *lines, last = result.stdout.splitlines()
    assert {line.split()[0] for line in lines if not line.startswith(" ")} <= {
        *("ok", "note", "warn", "fail")
    }
    assert "findings: " in last
    assert (result.exit_code == 1) == any(line.startswith("fail") for line in lines)


def test_lines_say_what_to_do_below_what_is_not_well():
    """Things and values stand in columns; what is long moves only its own value."""
    lines = lines_of(
        [ok("cores", "2"), fail("server http://gpu-0:8000/v1", "here: refused", "start it")]
    )

    assert list(lines) == [
        "ok    cores  2",
        "fail  server http://gpu-0:8000/v1  here: refused",
        "        start it",
    ]


@pytest.mark.cluster
def test_a_cluster_that_is_well(folder, cli, nodes, server, monkeypatch):
    """All of it answers: scheduler, node, disk, clock, pipeline and server, which has the model."""
    monkeypatch.delenv("RAG_KEY", raising=False)
    write_pipeline(server.endpoint)

    address = nodes.client.scheduler.address
    words = ("--scheduler", address, "--pipeline", "rag.yaml", "--run-dir", "r")
    result = cli("doctor", *words)

    assert result.exit_code == 0, result.stdout
    for line in (
        f"{address} answers; connected in",
        f"listens at {address}",
        "policy 'spread', 0 tasks waiting",
        "none that lose work",
        "1 on 1 node (node-0), 2 threads",
        "resources LLM=2",
        "the same on the scheduler and on every worker",
        "node-0: at least",
        "node-0, the scheduler: at most",
        "rag: can be run, in 1 task",
        "LLM=1, llm=1 per task can be had",
        "not asked from here, where RAG_KEY holds no key",
        "on node-0: answers in",
        "has timed, RAG_KEY holds a key",
        "SQLite, will be made",
    ):
        assert line in result.stdout
    assert "0123456789" not in result.stdout
    assert not Path("r").exists()


@pytest.mark.cluster
def test_a_pipeline_that_this_cluster_can_not_run(folder, cli, nodes, server):
    """A model, a resource and slots that are not there: three lines, and none hides another."""
    write_pipeline(server.endpoint, model="timid", amount=4)
    address = nodes.client.scheduler.address

    result = cli("doctor", "--scheduler", address, "--pipeline", "rag.yaml")

    assert result.exit_code == 1
    assert "asks for LLM=4 per task, but the most that one worker offers is LLM=2" in result.stdout
    assert "on node-0: has no model 'timid'; it has 'timed'" in result.stdout
    assert "did you mean 'timed'?" in result.stdout


def test_json_has_everything(cli, server):
    """Programs get marks, values, advice and counts."""
    result = cli("doctor", "--endpoint", server.endpoint, "--json")

    told = json.loads(result.stdout)
    found = [each for each in told["findings"] if each["what"] == f"server {server.endpoint}"]
    assert [each["mark"] for each in found] == ["ok", "ok"]
    assert set(found[0]) == {"mark", "what", "value", "advice"}
    assert sum(told["counts"].values()) == len(told["findings"])


def test_a_scheduler_that_is_not_there(cli, free_port):
    """It is told in the system's words, and all else is examined."""
    result = cli("doctor", "--scheduler", f"tcp://127.0.0.1:{free_port}")

    assert result.exit_code == 1
    assert f"no Dask scheduler answers at 'tcp://127.0.0.1:{free_port}'" in result.stdout
    assert "(Connection refused)" in result.stdout
    assert "temporary folder" in result.stdout


def test_a_scheduler_that_says_nothing(cli, monkeypatch):
    """A process that hangs accepts connections, and the command does not hang with it."""
    monkeypatch.setattr("sage_dask.reach.CONNECT_S", 0.2)

    with socket.create_server(("127.0.0.1", 0)) as hung:
        result = cli("doctor", "--scheduler", f"tcp://127.0.0.1:{hung.getsockname()[1]}")

    assert result.exit_code == 1
    assert "(it accepts connections, and says nothing for 0.2 s)" in result.stdout


def test_a_server_that_was_stopped(cli, free_port):
    """The address stands in the line."""
    result = cli("doctor", "--endpoint", f"http://127.0.0.1:{free_port}/v1")

    assert result.exit_code == 1
    assert f"server http://127.0.0.1:{free_port}/v1  here: connection refused" in result.stdout


def test_a_run_folder_that_is_a_file(folder, cli):
    """It can hold no journal."""
    result = cli("doctor", "--run-dir", "in.jsonl")

    assert result.exit_code == 1
    assert "in.jsonl: is a file, not a folder" in result.stdout


def test_a_pipeline_that_can_not_run_is_a_finding(folder, cli):
    """What planning refuses stands beside everything else."""
    Path("in.jsonl").unlink()

    result = cli("doctor", "--pipeline", "p.yaml")

    assert result.exit_code == 1
    assert "fail  pipeline" in result.stdout


def test_a_url_that_is_none_is_a_usage_error(cli):
    """Nothing is examined then."""
    result = cli("doctor", "--endpoint", "gpu-0")

    assert result.exit_code == 2
    assert "--endpoint: endpoint='gpu-0' is no URL of a server" in result.stderr
