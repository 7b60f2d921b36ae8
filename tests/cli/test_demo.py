"""``sage-dask demo``: who writes the answers."""

from __future__ import annotations

import sys

import pytest

from sage_dask.cluster import ModelServer
from sage_dask.cluster.timed_server import TimedServer
from sage_dask.demo import run
from sage_dask.errors import RunError
from tests.cluster.fake_vllm import install_fake_vllm


@pytest.fixture
def demos(monkeypatch):
    """Lend the list of demonstrations that the command would run."""
    asked = []

    class Report:
        num_failed = 0

    def run_demo(demo, say, show_progress):
        asked.append(demo)
        return Report()

    monkeypatch.setattr(run, "run_demo", run_demo)
    return asked


def test_without_a_server_nobody_writes(cli, demos):
    """Answers are quoted from the passages."""
    assert cli("demo", "--questions", "7").exit_code == 0

    (demo,) = demos
    assert (demo.writer, demo.num_questions) == (None, 7)


def test_a_server_that_runs_is_used(cli, demos):
    """Its first model writes unless another is named; one that it has not is refused."""
    with TimedServer(model="mine") as server:
        plain = cli("demo", "--endpoint", server.endpoint)
        named = cli("demo", "--endpoint", server.endpoint, "--model", "mine")
        wrong = cli("demo", "--endpoint", server.endpoint, "--model", "mint")

    assert [plain.exit_code, named.exit_code, wrong.exit_code] == [0, 0, 2]
    assert [demo.writer for demo in demos] == [run.Writer(server.endpoint, "mine")] * 2
    assert "no model 'mint'; it has 'mine'; did you mean 'mine'?" in wrong.stderr


def test_a_tiny_model_is_started_for_the_demo_alone(cli, demos, tmp_path, monkeypatch):
    """The server is a real process, whose model is known to be random, and it ends with it."""
    install_fake_vllm(tmp_path / "fake")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "fake"))
    monkeypatch.setenv("SAGE_DASK_VLLM_PYTHON", sys.executable)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")

    result = cli("demo", "--tiny")

    (demo,) = demos
    assert result.exit_code == 0, result.stderr
    assert "its words are noise" in demo.writer.description
    with pytest.raises(RunError, match="connection refused"):
        ModelServer.attach(demo.writer.endpoint, timeout_s=0)


@pytest.mark.parametrize(
    "words", [["--model", "m"], ["--tiny", "--endpoint", "http://h/v1"], ["--tiny", "--model", "m"]]
)
def test_what_contradicts_itself_is_refused(cli, demos, words):
    """Nothing is started; the message says which words go together."""
    result = cli("demo", *words)

    assert result.exit_code == 2
    assert "--model goes with --endpoint" in result.stderr
    assert demos == []
