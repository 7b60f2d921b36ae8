"""How a run stands, read from its folder: by anybody, while it runs and after.

Nothing here takes the folder or writes to it.  What is read while a run goes on
is what was true a moment ago.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sage_dask.durable.export import checksum
from sage_dask.durable.run_folder import EVENTS, LAUNCH, NUM_ITEMS, PUBLISHED, stored_events
from sage_dask.errors import RunError
from sage_dask.events import BUDGET, Event, JobFinished, JobStarted
from sage_dask.journal.entries import EPOCH
from sage_dask.journal.lock import Holder, holder
from sage_dask.journal.opening import has_journal, open_store
from sage_dask.journal.store import Store
from sage_dask.launch import Launch
from sage_dask.report import ReportBuilder

RUNNING, DONE, INTERRUPTED, FAILED, STOPPED = "running", "done", "interrupted", "failed", "stopped"

# What ends a run from outside, by the outcome of its last event.
_INTERRUPTS = {
    "KeyboardInterrupt": "Ctrl-C",
    "Terminated": "a signal",
    "JobCancelledError": "cancelled",
}


@dataclass(frozen=True, slots=True)
class OutputFile:
    """A file of a run's output."""

    path: str
    size: int | None
    """Bytes that were published; None where there was nothing to write."""
    change: str = ""
    """What is different now; empty where it is as it was published."""


@dataclass(frozen=True, slots=True)
class RunStatus:
    """One run, as its folder tells it."""

    state: str
    """``"running"``, ``"done"``, ``"interrupted"``, ``"failed"``, or ``"stopped"`` by a budget."""
    reason: str = ""
    """Why it does not run any more; empty where it is done."""
    pipeline: str = ""
    holder: Holder | None = None
    """The process that runs it."""
    num_starts: int = 0
    num_done: int = 0
    num_items: int | None = None
    """Rows of the input, once it was read to its end."""
    num_failed: int = 0
    failures: Mapping[str, int] = field(default_factory=dict)
    """Number of failures by ``"stage: error class"``."""
    num_begun: int = 0
    """Records whose costly stages are done, and later ones are not."""
    started_at: str = ""
    """When the last start began."""
    last_event: str = ""
    journal_bytes: int = 0
    output: str = ""
    files: tuple[OutputFile, ...] = ()
    launch: Launch | None = None
    """How the command line starts it again; None where a program has to."""


def read_status(folder: Path, *, verify: bool = False) -> RunStatus:
    """Return how the run of a folder stands.

    Args:
        folder: Of the run.
        verify: Read the files of the output, to see whether they are what was published.

    Raises:
        RunError: It holds no run that keeps a journal, or the journal can not be read.
    """
    require_journal(folder)
    # First: a run that ends meanwhile is then called running, which it was, not killed.
    by = holder(folder)
    store = open_store(folder, read_only=True)
    try:
        return _read(folder, store, by, verify=verify)
    finally:
        store.close()


def require_journal(folder: Path) -> None:
    """Raise unless a run with a journal was begun in a folder.

    Raises:
        RunError: The message says what is there in its place.
    """
    if has_journal(folder):
        return
    if (folder / EVENTS).exists():
        raise RunError(
            f"run folder {str(folder)!r} holds a run without a journal, which can not go on; "
            f"'sage-dask report {folder}' tells what there is"
        )
    if folder.is_dir():
        what = "is there, but holds no run"
    else:
        what = "is a file, and no folder" if folder.exists() else "does not exist"
    raise RunError(
        f"run folder {str(folder)!r} {what}; give the folder that --run-dir (run_dir) named"
    )


def state_of(last: Event | None, *, is_held: bool, is_published: bool) -> tuple[str, str]:
    """Return how a run stands, and why.

    Args:
        last: The last event of the run.
        is_held: Whether a process runs it.
        is_published: Whether the whole output was written, and nothing came since.
    """
    if is_held:
        return RUNNING, ""
    if is_published:
        return DONE, ""
    # A run that was killed has no end, and neither has one whose folder was taken back.
    if not isinstance(last, JobFinished) or last.outcome == "done":
        return INTERRUPTED, "killed, with no time to say why"
    if last.outcome in _INTERRUPTS:
        return INTERRUPTED, last.message or _INTERRUPTS[last.outcome]
    if last.outcome == BUDGET:
        return STOPPED, last.message
    return FAILED, f"{last.outcome}: {last.message}"


def _read(folder: Path, store: Store, by: Holder | None, *, verify: bool) -> RunStatus:
    facts = store.facts()
    counted = ReportBuilder()
    last: Event | None = None
    started_at = ""
    for last in stored_events(store, folder):
        counted.add(last)
        started_at = last.started_at if isinstance(last, JobStarted) else started_at
    report = counted.report()
    counts = store.counts()
    launch = _launch(facts)
    files = tuple(_files(facts, launch, verify=verify))
    is_published = bool(facts.get(PUBLISHED) and facts.get(NUM_ITEMS))
    state, reason = state_of(last, is_held=by is not None, is_published=is_published)
    return RunStatus(
        state=state,
        reason=reason,
        pipeline=report.pipeline,
        holder=by,
        num_starts=int(facts.get(EPOCH, 0)),
        num_done=counts.num_entries,
        num_items=int(facts[NUM_ITEMS]) if facts.get(NUM_ITEMS) else None,
        num_failed=counts.num_failed,
        failures=report.failures,
        num_begun=sum(1 for _ in store.memos()),
        started_at=started_at,
        last_event=last.kind if last is not None else "",
        journal_bytes=_journal_bytes(folder),
        output=report.output,
        files=files,
        launch=launch,
    )


def read_launch(folder: Path) -> Launch | None:
    """Return how the command line began the run of a folder; None where a program did.

    Raises:
        RunError: The journal can not be read.
    """
    store = open_store(folder, read_only=True)
    try:
        return _launch(store.facts())
    finally:
        store.close()


def _launch(facts: Mapping[str, str]) -> Launch | None:
    known = facts.get(LAUNCH)
    try:
        return Launch.from_json(known) if known else None
    except (ValueError, TypeError):
        # Of another version: as good as none.
        return None


def _files(
    facts: Mapping[str, str], launch: Launch | None, *, verify: bool
) -> Iterable[OutputFile]:
    """Yield the files that were published."""
    known = json.loads(facts.get(PUBLISHED) or "{}")
    base = Path(launch.folder if launch is not None else ".")
    for name, published in known.items():
        path = base / name
        size, digest = published or (None, None)
        yield OutputFile(name, size, _change(path, size, digest if verify else None))


def _change(path: Path, size: int | None, digest: str | None) -> str:
    """Return what is different about a file; it is read only if a digest is given."""
    if not path.is_file():
        return "" if size is None else "is not there"
    if size is None:
        return "is there, and was not"
    found = path.stat().st_size
    if found != size:
        return f"has {found:,} bytes, and had {size:,}"
    if digest is not None and checksum(path) != (size, digest):
        return "has other bytes than were published"
    return ""


def _journal_bytes(folder: Path) -> int:
    files = [*folder.glob("journal.db*"), *(folder / "journal").rglob("*")]
    return sum(file.stat().st_size for file in files if file.is_file())
