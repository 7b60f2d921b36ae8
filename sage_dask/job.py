"""One submission of a plan, seen from the driver: read, put in order, write, count.

A runner asks the job for batches and gives them back when their last task is
done; everything that must not depend on who ran them happens here.  The job has
no threads and never waits.  One thread drives it; notes may come from any.
"""

from __future__ import annotations

import secrets
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path

from sage_dask.batching import BatchSize
from sage_dask.budget import Spending
from sage_dask.errors import AccountingError, RunError, SourceError
from sage_dask.events import BUDGET, BatchCommitted, Event, EventFile, JobFinished, JobStarted
from sage_dask.feed import Feed
from sage_dask.options import Machines, RunOptions
from sage_dask.plan import Plan
from sage_dask.record import Batch, Failure, Record
from sage_dask.report import Report, ReportBuilder
from sage_dask.standing import Standing
from sage_dask.version import versions

# What a run folder is known by.
EVENTS = "events.jsonl"


@dataclass(slots=True)
class _Admitted:
    """A batch on its way: what is needed once it is back."""

    inputs: Callable[[], tuple[Sequence[str], Sequence[Record]]]
    """Ids and records as they were read, for those that fail."""
    num_sent: int
    num_read: int
    failures: list[Failure]
    """Rows that were unreadable."""
    admitted_s: float


class Job:
    """The driver's side of one run."""

    def __init__(
        self,
        plan: Plan,
        options: RunOptions,
        machines: Machines,
        *,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.plan = plan
        # Eight hexadecimal digits are what Dask cuts off a key to get the task's prefix.
        self.id = secrets.token_hex(4)
        self.size = BatchSize(plan.batching)
        self._options = options
        self._machines = machines
        self._clock = clock
        self._feed = Feed(
            plan.source,
            self.size,
            num_slots=machines.num_threads,
            record_priority=options.scheduling.record_priority,
        )
        self._builder = ReportBuilder()
        self._events: EventFile | None = None
        self._is_started = False
        self._admitted: dict[int, _Admitted] = {}
        self._done: dict[int, Batch] = {}
        self._next_to_write = 0
        self._source_error: SourceError | None = None
        self._started_s = 0.0
        self._waiting = {task.name for task in plan.stages if task.is_async}
        self._spending = Spending(options.budget)
        self._standing = Standing(
            plan.pipeline,
            self._feed.expected,
            self._spending.usage,
            options.observer,
            clock=clock,
        )
        options.budget.check(stage for task in plan.stages for stage in task.stages)
        _refuse_used(options.run_dir)

    @property
    def num_unwritten(self) -> int:
        """Batches that were admitted and are not yet written."""
        return len(self._admitted)

    def start(self, startup_s: Mapping[str, float]) -> None:
        """Open the sink and note the start; the clock of the makespan runs from here.

        Args:
            startup_s: Seconds spent before the first record, by what they went into.
        """
        self._events = _open_events(self._options.run_dir)
        self._is_started = True
        self.plan.sink.open()
        self._emit(
            JobStarted(
                pipeline=self.plan.pipeline,
                job=self.id,
                runner=self._machines.description,
                nodes=list(self._machines.nodes),
                num_threads=self._machines.num_threads,
                startup_s=dict(startup_s),
                stages=[stage.name for task in self.plan.stages for stage in task.stages],
                started_at=datetime.now().astimezone().isoformat(timespec="seconds"),
                versions=versions(),
                output=self.plan.sink.name,
            )
        )
        self._started_s = self._clock()
        self._standing.start(self._started_s)

    def admit(self) -> Batch | None:
        """Read the next batch with records in it; None when there is no more.

        Batches of nothing but unreadable rows are settled here and then.  A source that
        breaks ends the reading; ``finish`` raises its error once the batches before it
        are written.  So does a budget that is reached, without an error.
        """
        while self._spending.may_send():
            admitted_s = self._clock()
            try:
                batch = self._feed.next_batch()
            except SourceError as error:
                self._source_error = error
                return None
            if batch is None:
                return None
            self._admitted[batch.index] = _Admitted(
                partial(_as_read, batch.ids, batch.records),
                len(batch),
                batch.num_read,
                batch.failures,
                admitted_s,
            )
            batch.failures = []
            self._spending.sent(len(batch))
            if batch.records:
                return batch
            self.settle(batch)
        return None

    def keep_inputs(
        self, index: int, inputs: Callable[[], tuple[Sequence[str], Sequence[Record]]]
    ) -> None:
        """Keep the records of a batch in this form until it is settled, such as pickled."""
        self._admitted[index].inputs = inputs

    def ids_of(self, index: int) -> Sequence[str]:
        """Return the ids of the records of a batch that is on its way."""
        return self._admitted[index].inputs()[0]

    def settle(self, batch: Batch) -> None:
        """Take back a batch whose last task is done, and write what is due."""
        num_sent = self._admitted[batch.index].num_sent
        # Only tasks that compute: how long others are waited for says nothing of the size.
        computing = [task.seconds for task in batch.tasks if task.task not in self._waiting]
        if computing:
            self.size.observe(num_sent, max(computing))
        self._spending.back(num_sent, (t.usage for task in batch.tasks for t in task.stages))
        if not self._options.ordered:
            self._commit(batch)
            return
        self._done[batch.index] = batch
        while self._next_to_write in self._done:
            self._commit(self._done.pop(self._next_to_write))
            self._next_to_write += 1

    def note(self, source: str, text: str | None) -> None:
        """Show a short note beside the progress until it is replaced or cleared.

        May be called from any thread; the observer is told at once, in the caller's.

        Args:
            source: Whose note it is, such as a model server's address; each has one.
            text: What to show; None clears it.
        """
        self._standing.note(source, text)

    def finish(self) -> Report:
        """Check the account, publish the output and return the report.

        Where the budget ended the run before the source did, the output is not published
        but kept as after an abort, and the report says so.

        Raises:
            SourceError: The source broke before its end.
            AccountingError: A record is neither written, failed nor filtered.
        """
        is_cut_short = self._is_cut_short()
        if self._source_error is not None:
            raise self._source_error
        if self._admitted:
            raise RunError(
                f"job {self.id!r}: {len(self._admitted)} batches never came back; "
                "this is a defect of sage_dask, please report it"
            )
        self._builder.report().check_account()
        if is_cut_short:
            return self._end(JobFinished(BUDGET, self._cut_short(self.plan.sink.abort())))
        self.plan.sink.close()
        return self._end(JobFinished("done"))

    def abort(self, error: BaseException) -> None:
        """Keep what was written whole, and add to the error where it is."""
        # A note for whatever else goes wrong: it must not hide what ended the run.
        try:
            kept = self.plan.sink.abort() if self._is_started else ""
        except Exception as second:
            kept = f"and the output could not be left in order: {second}"
        if kept:
            error.add_note(kept)
        try:
            self._end(JobFinished(type(error).__name__, str(error)))
        except Exception as second:
            error.add_note(f"and the run's events could not be closed in order: {second}")

    def _is_cut_short(self) -> bool:
        """Return whether the budget ended the reading, and there is more to read."""
        if self._spending.reached is None or self._source_error is not None:
            return False
        try:
            return self._feed.next_batch() is not None
        except SourceError as error:
            self._source_error = error
            return False

    def _cut_short(self, kept: str) -> str:
        """Return what to tell of a run that its budget ended."""
        expected = self._feed.expected
        of = f" of {expected:,}" if expected is not None else ""
        return (
            f"{self._spending.reached} is reached: {self._spending.told()} spent on "
            f"{self._standing.num_read:,}{of} records; {kept + '; ' if kept else ''}"
            "to go on, raise it and run again (answers in the response cache cost nothing)"
        )

    def _commit(self, batch: Batch) -> None:
        admitted = self._admitted.pop(batch.index)
        batch.failures = [*admitted.failures, *batch.failures]
        if batch.num_read != admitted.num_read:
            raise AccountingError(
                f"job {self.id!r}: batch {batch.index} set out with {admitted.num_read} records "
                f"and accounts for {batch.num_read}; this is a defect of sage_dask, please report"
            )
        unwritable = self.plan.sink.write(batch.ids, batch.records)
        batch.failures += unwritable
        if batch.failures:
            as_read = dict(zip(*admitted.inputs(), strict=True))
            failures = [_with_input(failure, as_read) for failure in batch.failures]
            self.plan.sink.write_failures(failures)
        self._account(batch, admitted, num_written=len(batch) - len(unwritable))

    def _account(self, batch: Batch, admitted: _Admitted, *, num_written: int) -> None:
        now = self._clock()
        by_kind = Counter(f"{failure.stage}: {failure.error}" for failure in batch.failures)
        event = BatchCommitted(
            batch=batch.index,
            num_read=admitted.num_read,
            num_written=num_written,
            num_failed=len(batch.failures),
            num_filtered=batch.num_filtered,
            num_expanded=batch.num_expanded,
            latency_s=now - admitted.admitted_s,
            elapsed_s=now - self._started_s,
            tasks=batch.tasks,
            failures=dict(by_kind),
        )
        self._emit(event)
        self._standing.count(event)

    def _emit(self, event: Event) -> None:
        self._builder.add(event)
        if self._events is not None:
            self._events.append(event)

    def _end(self, event: JobFinished) -> Report:
        self._standing.stop()
        self._feed.close()
        self._emit(event)
        if self._events is not None:
            self._events.close()
            self._events = None
        return self._builder.report()


def _as_read(
    ids: Sequence[str], records: Sequence[Record]
) -> tuple[Sequence[str], Sequence[Record]]:
    return ids, records


def _with_input(failure: Failure, inputs: Mapping[str, Record]) -> Failure:
    """Attach the record as it was read, so that the failed file can be a source again."""
    if failure.record is not None:
        return failure
    return replace(failure, record=inputs.get(failure.root or failure.id))


def _refuse_used(run_dir: Path | None) -> None:
    """Refuse a folder that holds a run before operators are made ready."""
    if run_dir is not None and (run_dir / EVENTS).exists():
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
