"""Making the environment: what can go wrong is told in one line."""

from __future__ import annotations

import importlib.util
import sys
from collections import namedtuple
from pathlib import Path

import pytest

PATH = Path(__file__).resolve().parents[2] / "tools" / "bootstrap.py"

NO_NETWORK = """\
WARNING: Retrying (Retry(total=4, connect=None, read=None, redirect=None, status=None)) after \
connection broken by 'NewConnectionError('<pip._vendor.urllib3.connection.HTTPSConnection object \
at 0x7f>: Failed to establish a new connection: [Errno -3] Temporary failure in name resolution')\
': /simple/torch/
ERROR: Could not find a version that satisfies the requirement torch==2.13.0 (from versions: none)
ERROR: No matching distribution found for torch==2.13.0
"""
NO_SUCH_VERSION = """\
ERROR: Ignored the following versions that require a different python version: \
1.0 Requires-Python <3.11
ERROR: Could not find a version that satisfies the requirement faiss-cpu<2,>=1.9 \
(from versions: none)
ERROR: No matching distribution found for faiss-cpu<2,>=1.9
"""
DISK_FULL = """\
Installing collected packages: torch
ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device
"""
NO_COMPILER = """\
  building 'zstandard.backend_c' extension
  error: command 'gcc' failed: No such file or directory
  [end of output]
  note: This error originates from a subprocess, and is likely not a problem with pip.
  ERROR: Failed building wheel for zstandard
"""
NOT_ALLOWED = """\
ERROR: Could not install packages due to an OSError: [Errno 13] Permission denied: '/opt/x'
"""
UNHEARD_OF = """\
Collecting sage-dask
ERROR: something that nobody wrote down
[notice] A new release of pip is available
"""

Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def bootstrap():
    """Lend the script as a module; nothing runs when it is imported."""
    spec = importlib.util.spec_from_file_location("bootstrap_under_test", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def project(bootstrap, tmp_path, monkeypatch):
    """Lend a project folder with a room for its environment, and no pip."""
    (tmp_path / "pyproject.toml").write_text("[project]\n")
    monkeypatch.setattr(bootstrap, "ROOT", tmp_path)
    monkeypatch.setattr(bootstrap, "check_machine", lambda venv: None)
    return tmp_path


@pytest.mark.parametrize(
    ("output", "told"),
    [
        (NO_NETWORK, "no package index can be reached"),
        (NO_SUCH_VERSION, "has no faiss-cpu<2,>=1.9 for this Python and platform"),
        (DISK_FULL, "the disk is full; free 5 GiB and run make again"),
        (NO_COMPILER, "no C compiler works; install gcc"),
        (NOT_ALLOWED, "a folder can not be written; look at its owner"),
        (UNHEARD_OF, "ERROR: something that nobody wrote down"),
        ("", "failed without a word"),
    ],
    ids=["network", "version", "disk", "compiler", "permission", "unknown", "silent"],
)
def test_causes_are_recognised_in_what_pip_prints(bootstrap, output, told):
    """The reader gets the cause and the mend, not the last of a hundred lines."""
    assert told in bootstrap.cause(output)


def test_the_fingerprint_changes_with_what_is_asked_for(bootstrap, project):
    """Another pyproject or other extras are installed anew; the same are not."""
    first, again, other = (bootstrap.fingerprint(extras) for extras in ("rag", "rag", "rag,dev"))

    (project / "pyproject.toml").write_text("[project]\nname = 'x'\n")
    changed = bootstrap.fingerprint("rag")

    assert first == again
    assert len({first, other, changed}) == 3


def test_too_little_disk_is_refused(bootstrap, tmp_path, monkeypatch):
    """A disk that would fill up half-way is told before anything is downloaded."""
    monkeypatch.setattr(bootstrap.shutil, "disk_usage", lambda path: Usage(9, 8, 1 << 30))

    with pytest.raises(bootstrap.Refusal, match=r"1\.0 GiB free in .*, .* needs 5; free some"):
        bootstrap.check_machine(tmp_path / ".venv")


def test_an_old_python_is_refused(bootstrap, tmp_path, monkeypatch):
    """A Python below the least one is told with how to name another."""
    monkeypatch.setattr(bootstrap, "MINIMUM_PYTHON", (9, 99))

    with pytest.raises(bootstrap.Refusal, match=r"too old; sage_dask needs 9\.99 or newer: make"):
        bootstrap.check_machine(tmp_path / ".venv")


def test_a_python_without_venv_is_refused(bootstrap, tmp_path, monkeypatch):
    """Debian splits the standard library; the package that mends it is named."""
    monkeypatch.setitem(sys.modules, "ensurepip", None)

    with pytest.raises(bootstrap.Refusal, match=r"no 'ensurepip' module; .* python3-venv"):
        bootstrap.check_machine(tmp_path / ".venv")


def test_a_step_that_fails_tells_its_cause_and_its_log(bootstrap, tmp_path):
    """The refusal names the step, what is wrong, and where all of it can be read."""
    log = tmp_path / "log"
    log.write_text("ERROR: No space left on device, said an earlier step\n")
    program = "import sys; print('Permission denied'); sys.exit(3)"

    with pytest.raises(
        bootstrap.Refusal, match=r"torch: a folder can not be written.*log: .*log\)"
    ):
        bootstrap.run("torch", [sys.executable, "-c", program], log)


def test_a_second_run_returns_at_once(bootstrap, project, monkeypatch):
    """An environment that holds what is asked for is left alone; a changed one is not."""
    calls = []
    monkeypatch.setattr(bootstrap, "install", lambda venv, extras: calls.append(extras))
    monkeypatch.setattr(sys, "argv", ["bootstrap.py", "--venv", str(project), "--extras", "dev"])

    codes = [bootstrap.main(), bootstrap.main()]
    (project / "pyproject.toml").write_text("[project]\nname = 'x'\n")
    codes.append(bootstrap.main())

    assert codes == [0, 0, 0]
    assert calls == ["dev", "dev"]


def test_a_refusal_is_one_line_and_tried_again(bootstrap, project, monkeypatch, capsys):
    """What failed is not taken for done, and no trace of the script is shown."""

    def refuse(venv, extras):
        raise bootstrap.Refusal("no room")

    monkeypatch.setattr(bootstrap, "install", refuse)
    monkeypatch.setattr(sys, "argv", ["bootstrap.py", "--venv", str(project)])

    codes = [bootstrap.main(), bootstrap.main()]

    assert codes == [1, 1]
    assert capsys.readouterr().err == "error: no room\nerror: no room\n"


@pytest.mark.parametrize(("extras", "steps"), [("dev", 2), ("rag,dev", 3)])
def test_torch_comes_first_where_it_is_wanted(bootstrap, project, monkeypatch, extras, steps):
    """The pinned torch is there before the rest can ask for another; without rag, not at all."""
    commands = []
    monkeypatch.setattr(bootstrap, "run", lambda what, command, log: commands.append(command))

    bootstrap.install(project / ".venv", extras)

    assert len(commands) == steps
    assert commands[0][1:] == ["-m", "venv", str(project / ".venv")]
    assert [bootstrap.TORCH in command for command in commands[1:-1]] == [True] * (steps - 2)
    assert commands[-1][-2:] == ["--editable", f"{project}[{extras}]"]
