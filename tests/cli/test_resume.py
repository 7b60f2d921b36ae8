"""``sage-dask resume``: what was begun goes on as it was begun, from anywhere."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from sage_dask import Collect, FromIterable, Pipeline
from sage_dask.durable.run_folder import LAUNCH
from sage_dask.journal.entries import Group
from sage_dask.journal.opening import open_store
from sage_dask.launch import Launch


def outputs():
    """Return the texts that were written."""
    return [json.loads(line)["text"] for line in Path("out.jsonl").read_text().splitlines()]


def kept(folder: str) -> Launch:
    """Return what a run folder says of its start."""
    store = open_store(Path(folder), read_only=True)
    try:
        return Launch.from_json(store.facts()[LAUNCH])
    finally:
        store.close()


@pytest.fixture
def begun(folder, cli, texts):
    """Lend the folder of a run that was interrupted after two of three records."""
    texts("a", "b", "stop")
    result = cli("run", "p.yaml", "--batch-size", "1", "--run-dir", "runs/one")
    assert result.exit_code == 130
    assert result.stderr.endswith("go on with: sage-dask resume runs/one\n")
    return folder


def mend(module: str) -> None:
    """Take out what stopped the run: nobody presses Ctrl-C any more."""
    file = Path(f"{module}.py")
    file.write_text(file.read_text().replace("raise KeyboardInterrupt", "return record"))
    # A process imports a name only once.
    del sys.modules[module]


def test_what_was_said_is_kept_and_holds_again(begun, cli):
    """Options that were given need not be given again; the output is that of one run."""
    mend(begun)

    result = cli("resume", "runs/one", "--accept-changes", "map")

    assert result.exit_code == 0, result.stderr
    assert f"going on in {Path.cwd()} with: p.yaml\n" in result.stderr
    assert outputs() == ["A", "B", "stop"]
    assert kept("runs/one").options == {"batch_size": 1}


def test_it_goes_on_from_anywhere(begun, cli, tmp_path, monkeypatch):
    """Paths mean what they meant where the run was begun, and the command fits where one is."""
    mend(begun)
    elsewhere = tmp_path / "else where"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)

    refused = cli("resume", "../runs/one", "--max-errors", "0")
    result = cli("resume", "../runs/one", "--accept-changes", "map")

    assert refused.exit_code == 2
    assert result.exit_code == 0, result.stderr
    assert Path.cwd() == elsewhere
    assert list(elsewhere.iterdir()) == []
    monkeypatch.chdir(tmp_path)
    assert outputs() == ["A", "B", "stop"]


def test_the_command_to_go_on_with_is_quoted(folder, cli, texts):
    """What is said can be pasted, whatever the folder is called."""
    texts("stop")

    first = cli("run", "p.yaml", "--run-dir", "it's here")
    second = cli("resume", "it's here")

    for result in (first, second):
        assert result.exit_code == 130
        assert result.stderr.endswith("go on with: sage-dask resume 'it'\"'\"'s here'\n")


def test_what_is_said_now_takes_the_place_of_what_was_said(begun, cli):
    """An option of now holds for this start and those after it; one-start options do not stay."""
    words = ("--batch-size", "7", "--retry-failed", "--gate", "llm=2", "--max-errors", "5%")
    cli("resume", "runs/one", *words)

    assert kept("runs/one").options == {
        "batch_size": 7,
        "gates": [["llm", 2]],
        "max_errors": 0.05,
    }


def test_roots_that_were_given_hold_when_the_run_goes_on(folder, cli):
    """A file that was bound to a folder stays bound to it, whatever has become of it since."""
    keep = "  - select: {fields: [text]}\nsink:"
    text = Path("p.yaml").read_text()
    before, _, after = text.partition("  - map")
    Path("p.yaml").write_text(before + keep + after.partition("sink:")[2])
    first = cli("run", "p.yaml", "--run-dir", "r", "--root", ".")
    Path("p.yaml").write_text(text)

    second = cli("resume", "r")

    assert first.exit_code == 0, first.stderr
    assert second.exit_code == 2
    assert f"{folder}:shout" in second.stderr


def test_roots_bind_a_run_that_was_begun_without(folder, cli, monkeypatch):
    """Whoever goes on with a folder of someone else's may refuse to run its code."""
    first = cli("run", f"{folder}:declared", "--run-dir", "r")
    monkeypatch.setenv("SAGE_DASK_ROOTS", str(Path.cwd()))

    second = cli("resume", "r")

    assert first.exit_code == 0, first.stderr
    assert second.exit_code == 2
    assert "is Python, which roots do not hold" in second.stderr


def test_a_run_that_is_done_stays_so(folder, cli):
    """Nothing is run again; an output that was removed is written again."""
    cli("run", "p.yaml", "--run-dir", "r")
    Path("out.jsonl").unlink()

    result = cli("resume", "r")

    assert result.exit_code == 0, result.stderr
    assert outputs() == ["A", "B", "C"]


def test_an_extended_run_goes_on_as_any_other(folder, cli, texts):
    """Interrupted once its input has grown, it need not be told again that it had."""
    cli("run", "p.yaml", "--run-dir", "r")
    texts("a", "b", "c", "d", "stop")
    extended = cli("run", "p.yaml", "--run-dir", "r", "--extend", "--batch-size", "1")
    mend(folder)

    result = cli("resume", "r", "--accept-changes", "map")

    assert extended.exit_code == 130
    assert result.exit_code == 0, result.stderr
    assert outputs() == ["A", "B", "C", "D", "stop"]


def test_a_run_of_a_program_is_left_to_it(folder, cli):
    """Without a command line to repeat, the message says what to run."""
    own = Pipeline("own").source(FromIterable([{"a": 1}])).map(dict).sink(Collect())
    own.run(run_dir="r")

    result = cli("resume", "r")

    assert result.exit_code == 2
    assert "begun by a program, not with sage-dask run; run that program again" in result.stderr


def test_a_folder_that_moved_says_how_to_go_on(begun, cli):
    """Where the run's own folder is gone, the whole command is said."""
    store = open_store(Path("runs/one"))
    store.commit(Group(facts={LAUNCH: Launch("my p.yaml", "/no/such/folder").as_json()}))
    store.close()

    result = cli("resume", "runs/one")

    assert result.exit_code == 2
    assert "sage-dask run 'my p.yaml' --run-dir runs/one" in result.stderr


@pytest.mark.parametrize(
    ("made", "says"),
    [
        ((), "does not exist"),
        (("r/other",), "is there, but holds no run"),
        (("r/events.jsonl",), "a run without a journal, which can not go on"),
    ],
)
def test_what_is_no_run_is_refused(folder, cli, made, says):
    """A folder that is not there, one of something else, and one without a journal."""
    for name in made:
        Path("r").mkdir()
        Path(name).touch()

    result = cli("resume", "r")

    assert result.exit_code == 2
    assert says in result.stderr


def test_a_damaged_journal_is_told(begun, cli):
    """It is neither mended nor written over, and the words say what is left to do."""
    file = Path("runs/one/journal.db")
    content = file.read_bytes()
    file.write_bytes(content[:4096] + bytes(len(content) - 4096))

    results = [cli(command, "runs/one") for command in ("resume", "status", "report")]

    assert [result.exit_code for result in results] == [1, 1, 1]
    assert all("is damaged" in result.stderr for result in results)
    assert all("backup" in result.stderr for result in results)
