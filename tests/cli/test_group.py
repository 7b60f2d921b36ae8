"""The command line as a whole: help, unknown words, errors, and ``dask sage``."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from dask.cli import _register_command_ep
from dask.cli import cli as dask_cli

import sage_dask
from sage_dask.cli import main

COMMANDS = ["run", "resume", "status", "plan", "report", "index", "eval", "demo"]


def test_help_shows_the_commands_and_three_command_lines(cli):
    """The group's help teaches what is used most."""
    result = cli("--help")

    assert result.exit_code == 0
    assert all(f"\n  {command} " in result.stdout for command in COMMANDS)
    assert result.stdout.count("    sage-dask ") == 3


@pytest.mark.parametrize("words", [*([c] for c in COMMANDS), ["index", "build"], ["index", "info"]])
def test_each_command_has_a_worked_example(cli, words):
    """Every command's help ends with a command line that could be typed."""
    result = cli(*words, "--help")

    assert result.exit_code == 0
    assert "Example" in result.stdout
    assert f"\n    sage-dask {' '.join(words)} " in result.stdout


def test_run_documents_its_exit_codes(cli):
    """Scripts can rely on what the help says."""
    text = cli("run", "--help").stdout

    assert all(f"\n    {code} " in text for code in ("0", "1", "2", "3", "130"))


def test_version(cli):
    """The version is the package's."""
    assert cli("--version").stdout == f"sage-dask, version {sage_dask.__version__}\n"


def test_an_unknown_command_suggests_the_closest(cli):
    """A misspelt command is a usage error that names the right one."""
    result = cli("plam", "p.yaml")

    assert result.exit_code == 2
    assert "no command 'plam'" in result.stderr
    assert "did you mean 'plan'?" in result.stderr


def test_errors_have_a_traceback_on_request(folder, cli, monkeypatch):
    """One paragraph is the rule; a flag or a variable adds where it was raised."""
    plain = cli("run", "rag")
    flagged = cli("--traceback", "run", "rag")
    monkeypatch.setenv("SAGE_TRACEBACK", "1")
    by_variable = cli("run", "rag")

    assert "Traceback" not in plain.stderr
    assert flagged.stderr.startswith("Traceback")
    assert flagged.stderr.endswith(plain.stderr)
    assert by_variable.stderr == flagged.stderr


def test_defects_keep_their_traceback(folder, cli):
    """An exception that is not ours is not dressed up as one of the user's making."""
    Path(f"{folder}.py").write_text("def make():\n    raise ZeroDivisionError\n")

    result = cli("run", f"{folder}:make")

    assert isinstance(result.exception, ZeroDivisionError)


def test_help_loads_neither_dask_nor_models():
    """Help answers without importing what only a run needs."""
    heavy = ["torch", "faiss", "distributed", "sentence_transformers", "pyarrow", "rich"]
    code = (
        "import sys\nfrom sage_dask.cli import main\n"
        "main(['--help'], standalone_mode=False)\n"
        f"print([name for name in {heavy} if name in sys.modules])"
    )

    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)

    assert ran.stdout.splitlines()[-1] == "[]", ran.stderr


def test_dask_takes_the_group_as_its_own_command():
    """``dask sage`` is the group under the name that the entry point promises."""

    class FakeEntryPoint:
        """What Dask finds among the installed packages."""

        name = "sage"

        def load(self):
            """Return the group."""
            return main

    _register_command_ep(dask_cli, FakeEntryPoint())

    assert dask_cli.commands["sage"] is main


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("SIGINT", 130, "interrupted"),
        ("SIGTERM", 143, "terminated by SIGTERM"),
        ("SIGHUP", 129, "terminated by SIGHUP"),
    ],
)
def test_signals_reach_a_real_process(folder, texts, name, code, words):
    """A signal in the middle of a run ends the process with its code and one paragraph."""
    texts("a", "b", "stop")
    module = Path(f"{folder}.py")
    text = module.read_text().replace(
        "raise KeyboardInterrupt", f"import signal; signal.raise_signal(signal.{name})"
    )
    module.write_text(text)

    program = "from sage_dask.cli import main; main()"
    command = [sys.executable, "-c", program, "run", "p.yaml", "--batch-size", "1"]
    # A shell's background jobs ignore Ctrl-C, and their children would too.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    ran = subprocess.run(command, capture_output=True, text=True)
    signal.signal(signal.SIGINT, before)

    assert ran.returncode == code, ran.stderr
    assert ran.stderr.endswith(f"{words}; 2 records are in 'out.jsonl.partial'\n")
