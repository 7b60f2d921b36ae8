"""What a command line makes of a run: whom it asks, in which order, and with what."""

from __future__ import annotations

from pathlib import Path

import pytest

from sage_dask.cli import executing

SPY = """\


from sage_dask.errors import SchedulerLostError

told = []


class SpyPipeline(Pipeline):
    def run(self, on=None, **said):
        told.append((on, said))
        if len(told) < 3:
            raise SchedulerLostError("gone")
        return super().run(None, run_dir=said["run_dir"])


spy = SpyPipeline("spy", declared.input, declared.stages, declared.output)
"""


@pytest.fixture
def told(folder, monkeypatch):
    """Lend what a pipeline is told that loses its scheduler twice; nobody waits for it."""
    with Path(f"{folder}.py").open("a") as file:
        file.write(SPY)
    monkeypatch.setattr(executing, "await_scheduler", lambda *_, **__: None)
    return lambda: __import__(folder).told


def test_a_lost_scheduler_is_run_on_again(folder, cli, told):
    """The run goes on in its folder, and failures of its own are not tried once more."""
    words = ("--scheduler", "tcp://head:1", "--run-dir", "r", "--retry-failed", "--follow")

    result = cli("run", f"{folder}:spy", *words, "--reconnect")

    assert result.exit_code == 0, result.stderr
    assert [on for on, _ in told()] == ["tcp://head:1"] * 3
    assert [said.get("retry_failed") for _, said in told()] == [True, None, None]
    assert all(said["follow"] and said["run_dir"] == Path("r") for _, said in told())


def test_a_lost_scheduler_has_a_code_of_its_own(folder, cli, told):
    """Without --reconnect a batch script can start the cluster, and resume."""
    result = cli("run", f"{folder}:spy", "--scheduler", "tcp://head:1", "--run-dir", "r")

    assert result.exit_code == 5
    assert result.stderr.endswith("error: gone\n")
    assert len(told()) == 1
