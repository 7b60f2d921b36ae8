"""How a run stands is read from its folder, while it runs and after, without a trace."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sage_dask import FromIterable, Pipeline, StopRun
from sage_dask.durable.run_folder import LAUNCH, PUBLISHED
from sage_dask.durable.run_status import read_launch, read_status, state_of
from sage_dask.errors import RunError
from sage_dask.events import BUDGET, JobFinished, RecordsTakenBack
from sage_dask.journal.entries import Group
from sage_dask.journal.lock import RunLock
from sage_dask.journal.opening import open_store
from sage_dask.operators import WriteJsonl

TAKEN_BACK = RecordsTakenBack(1, 0, 1, 0, 0, {})


@pytest.mark.parametrize(
    ("last", "is_held", "is_published", "state"),
    [
        (None, True, False, ("running", "")),
        (JobFinished("done"), True, True, ("running", "")),
        (JobFinished("done"), False, True, ("done", "")),
        # Killed between the publishing and its event.
        (None, False, True, ("done", "")),
        # Killed as it began to extend a run that was done.
        (JobFinished("done"), False, False, ("interrupted", "killed, with no time to say why")),
        (TAKEN_BACK, False, False, ("interrupted", "killed, with no time to say why")),
        (JobFinished("KeyboardInterrupt"), False, False, ("interrupted", "Ctrl-C")),
        (JobFinished("Terminated", "SIGTERM"), False, False, ("interrupted", "SIGTERM")),
        (JobFinished("JobCancelledError", "by a"), False, False, ("interrupted", "by a")),
        (JobFinished(BUDGET, "spent"), False, False, ("stopped", "spent")),
        (JobFinished("RunError", "no disk"), False, False, ("failed", "RunError: no disk")),
    ],
)
def test_the_state_follows_from_the_lock_the_output_and_the_last_event(
    last, is_held, is_published, state
):
    """Whoever holds the folder runs it; else what was published counts, then the last word."""
    assert state_of(last, is_held=is_held, is_published=is_published) == state


def shout(record):
    """Fail one record, and end the run at another."""
    if record["text"] == "bad":
        raise ValueError("a bad one")
    if record["text"] == "stop":
        raise StopRun("no more today")
    return {"text": record["text"].upper()}


def run(folder: Path, *texts: str):
    """Run a pipeline in a folder."""
    source = FromIterable([{"text": text} for text in texts])
    sink = WriteJsonl(str(folder / "out.jsonl"))
    pipeline = Pipeline("shout").source(source).map(shout).sink(sink)
    return pipeline.run(run_dir=folder / "r", batch_size=1)


def test_a_run_that_is_done_is_counted(tmp_path):
    """Rows, failures by kind, starts and files are what the run had."""
    run(tmp_path, "a", "bad", "c")

    found = read_status(tmp_path / "r", verify=True)

    assert (found.state, found.reason, found.holder) == ("done", "", None)
    assert (found.num_done, found.num_items, found.num_failed) == (3, 3, 1)
    assert found.failures == {"shout: ValueError": 1}
    assert (found.num_starts, found.num_begun, found.pipeline) == (1, 0, "shout")
    assert found.last_event == "job_finished"
    assert found.journal_bytes > 0
    assert [(Path(file.path).name, file.change) for file in found.files] == [
        ("out.jsonl", ""),
        ("out.jsonl.failed.jsonl", ""),
    ]


def test_a_run_that_failed_tells_why(tmp_path):
    """The reason is that of the error, and what was done before it counts."""
    with pytest.raises(StopRun):
        run(tmp_path, "a", "stop")

    found = read_status(tmp_path / "r")

    assert (found.state, found.reason) == ("failed", "StopRun: no more today")
    assert (found.num_done, found.num_items) == (1, None)


def test_a_run_that_goes_on_names_who_has_it(tmp_path):
    """The process is that which holds the lock, and reading does not take it."""
    run(tmp_path, "a")

    with RunLock(tmp_path / "r"):
        found = read_status(tmp_path / "r")

    assert found.state == "running"
    assert found.holder is not None
    assert found.holder.pid == os.getpid()


def test_reading_leaves_no_trace(tmp_path):
    """Neither a file nor a byte is different for having been looked at."""
    run(tmp_path, "a", "bad")
    before = {path.name: path.read_bytes() for path in (tmp_path / "r").iterdir()}

    read_status(tmp_path / "r", verify=True)

    assert {path.name: path.read_bytes() for path in (tmp_path / "r").iterdir()} == before


@pytest.mark.parametrize(
    ("text", "verify", "change"),
    [
        (None, False, "is not there"),
        ("longer by far", False, "has 13 bytes, and had 25"),
        ("x" * 25, False, ""),
        ("x" * 25, True, "has other bytes than were published"),
    ],
)
def test_an_output_that_changed_is_told(tmp_path, text, verify, change):
    """A size is compared always, bytes only where that is asked for: they may be many."""
    run(tmp_path, "a")
    output = tmp_path / "out.jsonl"
    output.unlink() if text is None else output.write_text(text)

    found = read_status(tmp_path / "r", verify=verify)

    assert found.files[0].change == change


@pytest.mark.parametrize("known", ["", "[]", "{", '{"unknown": 1}'])
def test_a_start_that_is_not_understood_is_as_good_as_none(tmp_path, known):
    """Programs leave nothing there, and other versions may leave something else."""
    run(tmp_path, "a")
    store = open_store(tmp_path / "r")
    store.commit(Group(facts={LAUNCH: known}))
    store.close()

    assert read_launch(tmp_path / "r") is None
    assert read_status(tmp_path / "r").launch is None


def test_a_run_that_was_published_and_taken_back_is_not_done(tmp_path):
    """What is there is not the whole any more."""
    run(tmp_path, "a")
    store = open_store(tmp_path / "r")
    store.commit(Group(facts={PUBLISHED: ""}))
    store.close()

    assert read_status(tmp_path / "r").state == "interrupted"


def test_a_folder_without_a_journal_is_told_from_one_that_is_not_there(tmp_path):
    """Each is refused with its own words."""
    (tmp_path / "events.jsonl").touch()

    with pytest.raises(RunError, match="a run without a journal"):
        read_status(tmp_path)
    with pytest.raises(RunError, match="is a file, and no folder"):
        read_status(tmp_path / "events.jsonl")
    with pytest.raises(RunError, match="does not exist"):
        read_status(tmp_path / "none")
