"""``--root``: a YAML file of someone else's touches some folders and no others."""

from __future__ import annotations

from pathlib import Path

import pytest

BOUND = """\
pipeline: bound
source:
  read_jsonl: {path: in.jsonl, id: id}
stages:
  - select: {fields: [text]}
sink:
  write_jsonl: {path: out.jsonl}
"""


@pytest.fixture
def bound(folder):
    """Lend the current folder with a pipeline that names no code."""
    Path("bound.yaml").write_text(BOUND)
    Path("elsewhere").mkdir()
    Path("other").mkdir()


def test_a_file_is_bound_to_its_roots(bound, cli):
    """Paths under a root are planned, resolved; others are refused before anything is made."""
    inside = cli("plan", "bound.yaml", "--root", ".")
    outside = cli("plan", "bound.yaml", "--root", "elsewhere", "--root", "other")

    assert inside.exit_code == 0, inside.stderr
    assert f"read     {Path('in.jsonl').resolve()}" in inside.stdout
    assert outside.exit_code == 2
    assert "bound.yaml:3:22: read_jsonl: parameter 'path': 'in.jsonl' leads to" in outside.stderr
    assert str(Path("other").resolve()) in outside.stderr


def test_a_batch_system_sets_roots_for_every_command(bound, cli, monkeypatch):
    """The variable holds folders as PATH does; the option takes its place, and empty is none."""
    monkeypatch.setenv("SAGE_DASK_ROOTS", "elsewhere:other")
    refused, overruled = cli("plan", "bound.yaml"), cli("plan", "bound.yaml", "--root", ".")
    monkeypatch.setenv("SAGE_DASK_ROOTS", "elsewhere:.")
    inside = cli("plan", "bound.yaml")
    monkeypatch.setenv("SAGE_DASK_ROOTS", "")
    free = cli("plan", "bound.yaml")

    assert refused.exit_code == 2
    assert [overruled.exit_code, inside.exit_code, free.exit_code] == [0, 0, 0]
    assert "read     in.jsonl" in free.stdout


def test_python_is_refused(bound, folder, cli):
    """A module runs when it is imported, so it is not; functions in a file are refused, too."""
    Path(f"{folder}.py").write_text("from pathlib import Path\nPath('sprung').touch()\n")

    module = cli("plan", f"{folder}:declared", "--root", ".")
    script = cli("plan", f"{folder}.py:declared", "--root", ".")
    function = cli("plan", "p.yaml", "--root", ".")

    assert module.exit_code == script.exit_code == function.exit_code == 2
    assert "is Python, which roots do not hold" in module.stderr
    assert "is Python, which roots do not hold" in script.stderr
    assert "names code" in function.stderr
    assert not Path("sprung").exists()


def test_a_root_that_is_not_there_is_refused(bound, cli):
    """A misspelt root is named."""
    result = cli("plan", "bound.yaml", "--root", "rot")

    assert result.exit_code == 2
    assert "root 'rot' is no folder" in result.stderr
