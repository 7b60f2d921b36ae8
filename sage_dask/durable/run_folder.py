"""A run's folder as one start of the run finds and leaves it.

Whatever may not differ between two starts is checked here, before anything is
spent: the pipeline by its description, the input record by record.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path

from sage_dask.durable.extending import new_places
from sage_dask.errors import RunError
from sage_dask.events import Event, RecordsTakenBack, event_line, parse_event
from sage_dask.fingerprint.changes import differences, refuse_changes
from sage_dask.fingerprint.description import Description, describe, from_json, to_json
from sage_dask.finished import Finished
from sage_dask.journal.entries import Entry, Group, Mark
from sage_dask.journal.journal import Journal
from sage_dask.journal.opening import has_journal
from sage_dask.journal.rows import Row, unpack, unpack_memo
from sage_dask.journal.store import CorruptJournalError, Store
from sage_dask.options import RunOptions
from sage_dask.plan import Plan

# What a run folder is known by that holds no journal.
EVENTS = "events.jsonl"

# Facts of a journal.
PIPELINE = "pipeline"
"""The description of the pipeline that the run was begun with."""
NUM_ITEMS = "num_items"
"""Rows that the whole input had; absent or empty until it was read to its end."""
LAUNCH = "launch"
"""How the command line started the run, as JSON; empty where a program did."""
NUM_ROWS = "num_rows"
"""Records in the output that was published last."""
PUBLISHED = "published"
"""What the files of the output were when they were published; empty where something came since."""


class RunFolder:
    """The folder of a run, held by this process.

    Args:
        path: The folder; made if it is not there.
        plan: What runs.
        options: How; says what may differ from the start that began the run.

    Raises:
        PlanError: The pipeline or the input is another than the run was begun with.
        RunError: The folder can not be used, or another process uses it.
    """

    def __init__(self, path: Path, plan: Plan, options: RunOptions) -> None:
        if (path / EVENTS).exists() and not has_journal(path):
            raise RunError(
                f"run folder {str(path)!r} holds a run without a journal, which can not go on; "
                "give another run_dir, or remove that folder"
            )
        self.path = path
        self._plan = plan
        self._resuming = options.resuming
        self._launch = options.launch
        self._record_priority = options.scheduling.record_priority
        self.journal = Journal(path)
        try:
            self._begin()
        except BaseException:
            self.journal.close()
            raise

    @property
    def store(self) -> Store:
        """What was committed."""
        return self.journal.store

    @property
    def advice(self) -> str:
        """How to go on with the run, in words."""
        if self._launch is not None:
            return f"go on with: {self._launch.command}"
        return f"run it again with run_dir={str(self.path)!r}"

    def finished(self) -> Finished:
        """Return what is done and begun, to be held against the input."""
        num_items = self.store.facts().get(NUM_ITEMS)
        return Finished(
            self._plan.source.name,
            self.store.marks(),
            self._memos(),
            num_items=int(num_items) if num_items else None,
            record_priority=self._record_priority,
        )

    def events(self) -> Iterator[Event]:
        """Yield what all starts of the run noted."""
        return stored_events(self.store, self.path)

    def close(self) -> None:
        """Let go of the folder, and leave the events in a file of their own, too.

        Raises:
            RunError: Something could not be written.
        """
        try:
            self.journal.flush()
            self._write_events()
        finally:
            self.journal.close()

    def _write_events(self) -> None:
        partial = self.path / f"{EVENTS}.partial"
        try:
            with partial.open("wb") as file:
                file.writelines(line + b"\n" for line in self.store.events())
            partial.replace(self.path / EVENTS)
        except OSError as error:
            raise RunError(
                f"events of the run can not be written to {str(self.path / EVENTS)!r} "
                f"({error.strerror}); nothing is lost, the journal has them, too"
            ) from error

    def _begin(self) -> None:
        stages = [stage for task in self._plan.stages for stage in task.stages]
        description = describe(self._plan.pipeline, stages)
        known = self.store.facts().get(PIPELINE)
        launch = "" if self._launch is None else self._launch.as_json()
        group = Group(facts={PIPELINE: to_json(description), LAUNCH: launch})
        if known is not None and self._is_changed(from_json(known), description):
            # What is begun was made by the old pipeline, which later starts know nothing of.
            self.journal.forget([memo.entry.seq for memo in self.store.memos()], group)
        else:
            self.journal.commit(group)
        if self._resuming.retry_failed:
            self._take_back(self.store.entries(failed_only=True))
        if self._resuming.extend:
            # They are found again as the input is read, wherever they stand then.
            failed = self.store.entries(failed_only=True)
            self._take_back(entry for entry in failed if entry.id is None)
            begun = (Mark(*memo.entry[:4]) for memo in self.store.memos())
            places = new_places(self._plan.source, chain(self.store.marks(), begun))
            self.journal.renumber(places, Group(facts={PUBLISHED: "", NUM_ITEMS: ""}))

    def _is_changed(self, before: Description, now: Description) -> bool:
        """Return whether the pipeline is another than before, by changes that are accepted."""
        refuse_changes(before, now, self._resuming.accept_changes)
        return bool(differences(before, now))

    def _take_back(self, entries: Iterable[Entry]) -> None:
        """Make records that failed as if they had never been read."""
        places, event = taken_back(unpack(entry) for entry in entries)
        if places:
            group = Group(events=[event_line(event)], facts={PUBLISHED: ""})
            self.journal.forget(places, group)

    def _memos(self) -> Mapping[int, tuple[int, Row]]:
        """Return what is begun: by place, the number of tasks that are done, and their result.

        A task that ends with another stage now is run again.
        """
        tasks = self._plan.stages[:-1]
        starts = {task.stages[-1].name: number for number, task in enumerate(tasks, start=1)}
        begun = (unpack_memo(memo) for memo in self.store.memos())
        return {row.seq: (starts[stage], row) for stage, row in begun if stage in starts}


def stored_events(store: Store, path: Path) -> Iterator[Event]:
    """Yield the events of a journal.

    Raises:
        CorruptJournalError: One of them is none.
    """
    for number, line in enumerate(store.events(), start=1):
        try:
            yield parse_event(line)
        except (ValueError, KeyError, TypeError) as error:
            raise CorruptJournalError(
                f"run folder {str(path)!r}: event {number} of its journal is none "
                f"({type(error).__name__}: {error}); it was written by another version"
            ) from error


def taken_back(rows: Iterable[Row]) -> tuple[list[int], RecordsTakenBack]:
    """Return the places of some rows, and what is to be told when they are forgotten."""
    places: list[int] = []
    counts: Counter[str] = Counter()
    failures: Counter[str] = Counter()
    for row in rows:
        places.append(row.seq)
        counts["written"] += len(row.outputs)
        counts["failed"] += len(row.failures)
        counts["filtered"] += row.num_filtered
        counts["expanded"] += row.num_expanded
        failures.update(f"{failure.stage}: {failure.error}" for failure in row.failures)
    event = RecordsTakenBack(
        num_read=len(places),
        num_written=counts["written"],
        num_failed=counts["failed"],
        num_filtered=counts["filtered"],
        num_expanded=counts["expanded"],
        failures=dict(failures),
    )
    return places, event
