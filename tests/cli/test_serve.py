"""``sage-dask serve``: what it refuses, what it says, and how it ends."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import urllib.request

import pytest

from sage_dask.cli.timed_flags import NAMES, SHARED, timed_options
from sage_dask.cluster.tiny_model import SHAPES
from tests.cluster.fake_vllm import install_fake_vllm

PROGRAM = "from sage_dask.cli import main; main()"


@pytest.fixture
def serve(tmp_path, monkeypatch):
    """Lend a function that starts the command, with a vLLM that starts at once."""
    install_fake_vllm(tmp_path / "fake")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "fake"))
    monkeypatch.setenv("SAGE_DASK_VLLM_PYTHON", sys.executable)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    processes = []

    def started(*words):
        processes.append(
            subprocess.Popen(
                [sys.executable, "-c", PROGRAM, "serve", "--port", "0", *words],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
        )
        return processes[-1]

    yield started
    for process in processes:
        process.kill()
        process.communicate()


def models_at(endpoint):
    """Return the names of the models that a server has."""
    with urllib.request.urlopen(f"{endpoint}/models") as answer:
        return [model["id"] for model in json.load(answer)["data"]]


@pytest.mark.parametrize(
    ("words", "model"),
    [
        (["org-model", "--cpu"], "org-model"),
        (["--tiny", "--cpu"], "random-qwen2-tiny-"),
        (["--tiny", "small", "--cpu", "--", "--seed", "7"], "random-qwen2-small-"),
        (["--timed", "--seats", "2", "--request-metrics", "--name", "mine"], "mine"),
    ],
    ids=["model", "tiny", "tiny with words", "timed"],
)
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_server_runs_until_a_signal(serve, words, model, number, code):
    """It prints where it is and how it is used, answers there, and ends as commands do."""
    process = serve(*words)
    where, use = process.stdout.readline(), process.stdout.readline()
    endpoint = where.split(" at ")[1].split(" ")[0]
    (found,) = models_at(endpoint)

    process.send_signal(number)
    _, complaints = process.communicate()

    assert found.startswith(model)
    assert where.startswith(f"Serving {found!r} at http://127.0.0.1:")
    assert use == f"  Generate(endpoint={endpoint!r}, model={found!r})\n"
    assert process.returncode == code
    assert "Traceback" not in complaints
    with pytest.raises(OSError, match="refused"):
        models_at(endpoint)


def test_a_server_that_dies_ends_the_command(serve):
    """The cause is told in one paragraph, with the exit code of a failed run."""
    process = serve("homeless", "--cpu")

    _, complaints = process.communicate()

    assert process.returncode == 1
    assert "there is no such model" in complaints
    assert "Traceback" not in complaints


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "one of MODEL, --tiny, --timed says what to serve, and here is none of them"),
        (["m", "--timed"], "here is MODEL and --timed"),
        (["--tiny", "--timed"], "here is --tiny and --timed"),
        (["--tiny", "--seats", "3"], "--seats is for --timed alone"),
        (["--timed", "--cpu"], "is for vLLM alone"),
        (["--timed", "--max-num-seqs", "3"], "--max-num-seqs is for vLLM alone"),
        (["--timed", "--", "--seed", "7"], "'--seed 7' is for vLLM alone"),
        (["m", "--cpu", "--", "--host", "0.0.0.0"], "extra can not set '--host'"),
        (["--timed", "--kv-tokens", "1"], "kv_tokens=1 can not hold one sequence"),
    ],
)
def test_what_contradicts_itself_is_refused(cli, words, told):
    """Nothing is started; the message says which words do not go together."""
    result = cli("serve", *words)

    assert result.exit_code == 2
    assert told in result.stderr


def test_an_open_address_without_a_key_is_warned_of(cli, monkeypatch):
    """Who lets the network in is told so; a key or the loopback address is no reason."""
    monkeypatch.setenv("MY_KEY", "canary-0123456789")
    refused = ["--timed", "--kv-tokens", "1"]  # So that nothing listens.

    open_, keyed, local = (
        cli("serve", *refused, *words)
        for words in (
            ["--host", "0.0.0.0"],
            ["--host", "0.0.0.0", "--api-key-env", "MY_KEY"],
            ["--host", "::1"],
        )
    )

    assert "whoever reaches 0.0.0.0 can use the server" in open_.stderr
    assert "whoever" not in keyed.stderr + local.stderr
    assert "canary" not in keyed.output


def test_flags_become_options():
    """Every option has a flag, which sets it; one that is not given leaves it alone."""
    from dataclasses import fields

    from sage_dask.cluster.timed_server.options import TimedOptions

    given = {"seats": 3, "seed": None, "request_metrics": True, "max_num_seqs": 9}
    options = timed_options(given, model="mine", api_key="key")

    assert options == TimedOptions(seats=3, request_metrics=True, model="mine", api_key="key")
    assert {field.name for field in fields(TimedOptions)} == NAMES | SHARED | {"model", "api_key"}


def test_the_sizes_on_offer_are_those_there_are(cli):
    """The help names every size of tiny model."""
    result = cli("serve", "--help")

    assert all(size in result.stdout for size in SHAPES)
    assert "--faults" in result.stdout
