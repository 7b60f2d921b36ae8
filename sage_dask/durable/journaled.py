"""An outlet that commits batches to the run's journal, and exports the output at the end."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue

from sage_dask.admitted import Admitted
from sage_dask.durable.export import publish
from sage_dask.durable.follow import Follower
from sage_dask.durable.run_folder import EVENTS, NUM_ITEMS, PUBLISHED, RunFolder
from sage_dask.durable.settlement import rows_of, settled
from sage_dask.errors import RunError, counted
from sage_dask.event_file import EventFile, has_events
from sage_dask.events import (
    BatchCommitted,
    BatchFormed,
    BatchKept,
    BatchRemembered,
    Event,
    RecordsRefused,
    event_line,
)
from sage_dask.finished import Finished
from sage_dask.journal.entries import Entry, Group, Memo
from sage_dask.journal.rows import pack_memo
from sage_dask.journal.store import JournalError
from sage_dask.options import RunOptions
from sage_dask.outlet import DirectOutlet, EventMaker, Outlet, Written
from sage_dask.plan import Plan
from sage_dask.record import Batch


def outlet_of(plan: Plan, options: RunOptions, wake: Callable[[], None]) -> Outlet:
    """Return the outlet for a run: with a journal where the run has a folder for it.

    Raises:
        PlanError: The folder is of another pipeline.
        RunError: The folder can not be used.
    """
    if options.run_dir is not None and options.durable:
        return JournalOutlet(RunFolder(options.run_dir, plan, options), plan, options, wake)
    _refuse_used(options.run_dir)
    return DirectOutlet(
        plan.sink, ordered=options.ordered, open_events=partial(_open_events, options.run_dir)
    )


class JournalOutlet:
    """Commits batches, and exports them once all are done.

    Args:
        run: The run's folder; closed with the outlet.
        plan: What runs.
        options: How.
        wake: Called by the thread that commits, when ``written`` has something new.
    """

    def __init__(
        self, run: RunFolder, plan: Plan, options: RunOptions, wake: Callable[[], None]
    ) -> None:
        self._run = run
        self._plan = plan
        self._wake = wake
        self._follower = Follower(run.path, plan.sink.name) if options.follow else None
        self._safe: SimpleQueue[tuple[Written, Sequence[Entry], JournalError | None]] = (
            SimpleQueue()
        )
        self._num_pending = 0
        self._unsaid: list[bytes] = []
        """Events that can wait for the next commit."""
        self._is_unpublished = False
        self._is_closed = False

    commits_later = True
    keeps_events = True

    @property
    def num_pending(self) -> int:
        """Batches that are being committed."""
        return self._num_pending

    def finished(self) -> Finished:
        """Return what earlier starts of the run are done with."""
        return self._run.finished()

    def past_events(self) -> Iterator[Event]:
        """Yield what earlier starts of the run noted."""
        return self._run.events()

    def open(self) -> None:
        """Begin the file for those who watch with what is done already."""
        if self._follower is not None:
            self._follower.open(self._run.store.entries())

    def note(self, event: Event) -> None:
        """Have an event committed."""
        if self._is_closed:
            return
        # What was read is known within a second, and needs no commit of its own.
        has_time = isinstance(event, BatchFormed)
        self._run.journal.put(Group(events=self._lines(event)), _ignore, has_time=has_time)

    def take(self, batch: Batch, admitted: Admitted, event_of: EventMaker) -> None:
        """Have a batch committed, with its event."""
        entries = settled(batch, admitted)
        batch.failures = [*admitted.failures, *batch.failures]
        event = event_of(batch, len(batch))
        # An output that is there is not the whole any more.
        facts = {} if self._is_unpublished else {PUBLISHED: ""}
        self._is_unpublished = True
        self._put(Group(entries, events=self._lines(event), facts=facts), Written(batch, event))

    def remember(
        self, batch: Batch, admitted: Admitted, stage: str, event: BatchRemembered
    ) -> None:
        """Have what a batch has after a costly stage committed, before it goes on."""
        memos: list[Memo] = []
        try:
            memos = [pack_memo(stage, row) for row in rows_of(batch, admitted.places)]
        except ValueError:
            # A record has no form in a journal here, and may have one at the end: after a crash
            # its batch is made again.
            memos = []
        self._put(Group(memos=memos, events=self._lines(event)), Written(batch, event))

    def written(self) -> Iterator[Written]:
        """Yield what was committed since the last call.

        Raises:
            JournalError: Something could not be committed, and nothing can any more.
        """
        while True:
            try:
                written, entries, error = self._safe.get_nowait()
            except Empty:
                return
            self._num_pending -= 1
            if error is not None:
                raise error
            if self._follower is not None:
                self._follower.add(entries)
            if written.kept is not None:
                self._unsaid.append(event_line(written.kept))
            yield written

    def flush(self) -> None:
        """Wait until all that was taken is committed.

        Raises:
            JournalError: Something could not be committed.
        """
        self._run.journal.flush()

    def finish(self, num_items: int, tell: Callable[[RecordsRefused], None]) -> None:
        """Check that every row of the input is in the journal, and export it."""
        journal = self._run.journal
        num_entries = journal.store.counts().num_entries
        if num_entries != num_items:
            raise RunError(
                f"run folder {str(self._run.path)!r}: the input has {num_items:,} rows and the "
                f"journal {num_entries:,}; this is a defect of sage_dask, please report it"
            )
        facts = {NUM_ITEMS: str(num_items)}
        publish(journal, self._plan.source, self._plan.sink, facts, tell)

    def abort(self) -> str:
        """Commit what was taken, and say how the run goes on."""
        if self._is_closed:
            return ""
        with suppress(JournalError):
            # It is what ended the run, then.
            self._run.journal.flush()
        done = counted(self._run.store.counts().num_entries, "record")
        return f"{done} safe in {str(self._run.path)!r}; {self._run.advice}"

    def close(self) -> None:
        """Write the events to a file of their own, too, and let go of the folder."""
        if self._is_closed:
            return
        self._is_closed = True
        if self._follower is not None:
            self._follower.close()
        self._run.close()

    def _lines(self, event: Event) -> list[bytes]:
        """Return an event's line, and before it those that waited for this commit."""
        lines, self._unsaid = [*self._unsaid, event_line(event)], []
        return lines

    def _put(self, group: Group, written: Written) -> None:
        self._num_pending += 1
        committed = partial(self._committed, written, group.entries, time.perf_counter())
        self._run.journal.put(group, committed)

    def _committed(
        self,
        written: Written,
        entries: Sequence[Entry],
        put_s: float,
        error: JournalError | None,
    ) -> None:
        """Pass on what is safe; called by the thread that commits."""
        if isinstance(written.event, BatchCommitted):
            kept = BatchKept(written.event.batch, time.perf_counter() - put_s)
            written = written._replace(kept=kept)
        self._safe.put((written, entries, error))
        self._wake()


def _ignore(error: JournalError | None) -> None:
    """Leave an error to the next batch, which meets the same."""


def _refuse_used(run_dir: Path | None) -> None:
    """Refuse a folder that holds a run before operators are made ready."""
    if run_dir is not None and has_events(run_dir / EVENTS):
        raise RunError(
            f"run folder {str(run_dir)!r} already holds a run; give another run_dir, "
            "or remove that folder"
        )


def _open_events(run_dir: Path | None) -> EventFile | None:
    if run_dir is None:
        return None
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        return EventFile(run_dir / EVENTS)
    except OSError as error:
        raise RunError(
            f"run folder {str(run_dir)!r} can not be written ({error.strerror}); "
            "give another run_dir"
        ) from error
