"""One submission of a plan, seen from the driver: read, keep, count.

A runner asks the job for batches and gives them back when their last task is
done; everything that must not depend on who ran them happens here.  The job has
no threads and never waits before its end.  One thread drives it; notes, and the
wish to stop, may come from any.
"""

from __future__ import annotations

import secrets
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Self

from sage_dask.admitted import Admitted, Inputs, admitted
from sage_dask.batching import BatchSize
from sage_dask.budget import Spending
from sage_dask.durable.journaled import outlet_of
from sage_dask.errors import AccountingError, PlanError, RunError, SourceError, TooManyFailuresError
from sage_dask.events import (
    BUDGET,
    BatchCommitted,
    BatchFormed,
    BatchRemembered,
    Event,
    JobFinished,
    JobStarted,
    RecordsRefused,
)
from sage_dask.feed import Feed
from sage_dask.options import Machines, RunOptions
from sage_dask.plan import Plan
from sage_dask.record import Batch, Failure
from sage_dask.report import Report, ReportBuilder
from sage_dask.scheduling.gate import GateStatistics
from sage_dask.scheduling.servers import ServerStatistics
from sage_dask.spent import COMMIT
from sage_dask.standing import Progress, Standing
from sage_dask.version import versions

# Of a failure's words, as many as a line of a report can show.
_MOST_SAID_CHARS = 240


class Job:
    """The driver's side of one run.

    Args:
        plan: What runs.
        options: How; with a run folder the job goes on where an earlier start of it ended.
        machines: Where.
        wake: Called, from any thread, when ``collect`` has something new.
        clock: Seconds; only differences count.

    Raises:
        PlanError: The run folder is of another pipeline or input, or a limit makes no sense.
        RunError: The run folder can not be used.
    """

    def __init__(
        self,
        plan: Plan,
        options: RunOptions,
        machines: Machines,
        *,
        wake: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        options.budget.check(stage for task in plan.stages for stage in task.stages)
        self.plan = plan
        # Eight hexadecimal digits are what Dask cuts off a key to get the task's prefix.
        self.id = secrets.token_hex(4)
        self.size = BatchSize(plan.batching)
        self._options = options
        self._machines = machines
        self._clock = clock
        self._outlet = outlet_of(plan, options, wake)
        self._feed = Feed(
            plan.source,
            self.size,
            num_slots=machines.num_threads,
            record_priority=options.scheduling.record_priority,
            finished=self._outlet.finished(),
        )
        self._builder = ReportBuilder()
        self._is_started = False
        self._admitted: dict[int, Admitted] = {}
        self._ready: list[Batch] = []
        """Batches that may go on."""
        self._source_error: SourceError | None = None
        self._reason_to_stop: BaseException | None = None
        self._started_s = 0.0
        self._waiting = {task.name for task in plan.stages if task.is_async}
        self._spending = Spending(options.budget)
        self._standing = Standing(
            plan.pipeline,
            self._feed.expected,
            self._spending.usage,
            options.observer,
            job=self.id,
            builder=self._builder,
            clock=clock,
        )

    @property
    def num_threads(self) -> int:
        """Tasks that can run at once."""
        return self._machines.num_threads

    @property
    def num_unwritten(self) -> int:
        """Batches that were admitted and are not yet written."""
        return len(self._admitted)

    @property
    def num_pending(self) -> int:
        """Batches that are back, and will be safe or may go on without any other."""
        return self._outlet.num_pending + len(self._ready)

    @property
    def is_stopping(self) -> bool:
        """Whether no more is begun, and what is under way is all that is waited for."""
        return self._reason_to_stop is not None

    def start(self, startup_s: Mapping[str, float]) -> None:
        """Note the start; the clock of the makespan runs from here.

        Args:
            startup_s: Seconds spent before the first record, by what they went into.
        """
        self._recall()
        self._outlet.open()
        self._is_started = True
        launch = self._options.launch
        self._note(
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
                policy=self._options.scheduling.policy_name,
                command=launch.typed if launch is not None else "",
                task_names=self._task_names,
            )
        )
        self._started_s = self._clock()
        self._standing.start(self._started_s)

    @property
    def _task_names(self) -> Sequence[str]:
        return [task.name for task in self.plan.stages] if self._machines.has_keys else []

    def admit(self) -> Batch | None:
        """Read the next batch with records in it; None when there is no more.

        Batches of nothing but unreadable rows are settled here and then.  A source that
        breaks ends the reading; ``finish`` raises its error once the batches before it
        are written.  So does a budget that is reached, without an error.
        """
        while not self.is_stopping and self._spending.may_send():
            admitted_s = self._clock()
            try:
                intake = self._feed.next_batch()
            except SourceError as error:
                self._source_error = error
                return None
            if intake is None:
                return None
            batch = intake.batch
            kept = self._admitted[batch.index] = admitted(intake, admitted_s)
            if self._outlet.keeps_events:
                self._note(BatchFormed(batch.index, admitted_s - self._started_s, list(kept.ids)))
            self._spending.sent(len(batch))
            if batch.records:
                return batch
            self.settle(batch)
        return None

    def lap(self, index: int, what: str, at_s: float | None = None) -> None:
        """Say what a batch's time since the last lap was spent on.

        Args:
            index: Of the batch, admitted and not settled.
            what: A name of the driver's in ``spent``.
            at_s: When that ended, by ``now_s``; None for now.
        """
        self._admitted[index].watch.lap(what, self._clock() if at_s is None else at_s)

    @property
    def now_s(self) -> float:
        """The time by the job's clock."""
        return self._clock()

    def progress(self) -> Progress:
        """Return how far the job is; for the thread that drives it."""
        return self._standing.progress()

    def keep_inputs(self, index: int, inputs: Inputs) -> None:
        """Keep the records of a batch in this form until it is settled, such as pickled."""
        self._admitted[index].inputs = inputs

    def remember(self, batch: Batch) -> None:
        """Keep what a batch has so far; ``collect`` gives it back once that is safe."""
        kept = self._admitted[batch.index]
        self._learn(batch, kept)
        stage = self.plan.stages[batch.start - 1].stages[-1].name
        elapsed_s = self._clock() - self._started_s
        # What is told once is not told again at its end.
        tasks, batch.tasks = batch.tasks, []
        self._outlet.remember(batch, kept, stage, BatchRemembered(batch.index, elapsed_s, tasks))

    def settle(self, batch: Batch) -> None:
        """Take back a batch whose last task is done."""
        kept = self._admitted[batch.index]
        self._learn(batch, kept)
        self._spending.back(kept.num_sent)
        if batch.num_read + len(kept.failures) != kept.num_read:
            raise AccountingError(
                f"job {self.id!r}: batch {batch.index} set out with {kept.num_read} records and "
                f"accounts for {batch.num_read + len(kept.failures)}; this is a defect of "
                "sage_dask, please report"
            )
        self._outlet.take(batch, kept, partial(self._event, kept))
        self._absorb()

    def collect(self) -> list[Batch]:
        """Count what became safe, and return the batches that may go on with their next task.

        Raises:
            RunError: Nothing can be kept any more.
        """
        self._absorb()
        ready, self._ready = self._ready, []
        return [] if self.is_stopping else ready

    def stop(self, reason: BaseException) -> None:
        """Begin nothing more; ``finish`` raises the reason once what is under way is written.

        May be called from any thread, and by a signal's handler; the first reason counts.
        """
        if self._reason_to_stop is None:
            self._reason_to_stop = reason

    def note(self, source: str, text: str | None) -> None:
        """Show a short note beside the progress until it is replaced or cleared.

        May be called from any thread; the observer is told at once, in the caller's.

        Args:
            source: Whose note it is, such as a model server's address; each has one.
            text: What to show; None clears it.
        """
        self._standing.note(source, text)

    def show_load(
        self, gates: Mapping[str, GateStatistics], servers: Mapping[str, ServerStatistics]
    ) -> None:
        """Show beside the progress how full the job's gates and model servers are."""
        self._standing.show_load(gates, servers)

    def finish(self) -> Report:
        """Check the account, publish the output and return the report.

        Where the budget ended the run before the source did, the output is not published
        but kept as after an abort, and the report says so.

        Raises:
            SourceError: The source broke before its end.
            AccountingError: A record is neither written, failed nor filtered.
            TooManyFailuresError: More records failed than the run may have.
        """
        self._outlet.flush()
        self._absorb()
        is_cut_short = self._is_cut_short()
        for reason in (self._source_error, self._reason_to_stop):
            if reason is not None:
                raise reason
        if self._admitted:
            raise RunError(
                f"job {self.id!r}: {len(self._admitted)} batches never came back; "
                "this is a defect of sage_dask, please report it"
            )
        self._check_failures(is_end=not is_cut_short)
        if self._reason_to_stop is not None:
            raise self._reason_to_stop
        self._builder.report().check_account()
        if is_cut_short:
            return self._end(JobFinished(BUDGET, self._cut_short(self._outlet.abort())))
        self._outlet.finish(self._feed.num_read, self._refused)
        return self._end(JobFinished("done"))

    def abort(self, error: BaseException) -> None:
        """Keep what was written whole, and add to the error where it is."""
        # A note for whatever else goes wrong: it must not hide what ended the run.
        try:
            kept = self._outlet.abort() if self._is_started else ""
            if isinstance(error, PlanError):
                # It says itself what has to change before the run can go on.
                kept = ""
        except Exception as second:
            kept = f"and the output could not be left in order: {second}"
        if kept:
            error.add_note(kept)
        try:
            self._end(JobFinished(type(error).__name__, str(error)))
        except Exception as second:
            error.add_note(f"and the run's events could not be closed in order: {second}")
            self._standing.end(self._builder.report())

    def close(self) -> None:
        """Let go of the run folder; a job that ended did so already."""
        self._feed.close()
        self._outlet.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _learn(self, batch: Batch, kept: Admitted) -> None:
        """Learn what the tasks of a batch took and cost."""
        # Only tasks that compute: how long others are waited for says nothing of the size.
        computing: defaultdict[str, float] = defaultdict(float)
        for task in batch.tasks:
            if task.task not in self._waiting:
                # Several of a name where a suspect ran in parts.
                computing[task.task] += task.seconds
        if computing:
            self.size.observe(kept.num_sent, max(computing.values()))
        self._spending.spent(timing.usage for task in batch.tasks for timing in task.stages)

    def _absorb(self) -> None:
        """Count what became safe."""
        for batch, event, kept in self._outlet.written():
            self._builder.add(event)
            if kept is not None:
                self._builder.add(kept)
            if isinstance(event, BatchRemembered):
                self._ready.append(batch)
                self.lap(batch.index, COMMIT)
            else:
                del self._admitted[batch.index]
                self._standing.count(event)
        self._check_failures()

    def _recall(self) -> None:
        """Count what earlier starts of the run did."""
        for event in self._outlet.past_events():
            self._builder.add(event)
        before = self._builder.report()
        if before.num_read:
            self._standing.recall(before)
            self._spending.recall(before.num_read, before.usage)

    def _check_failures(self, *, is_end: bool = False) -> None:
        """Stop where more records failed than may."""
        counts = self._standing
        told = self._options.max_errors.excess(counts.num_failed, counts.num_read, is_end=is_end)
        if told is not None:
            self.stop(TooManyFailuresError(told))

    def _refused(self, event: RecordsRefused) -> None:
        """Count records that failed after all, and see whether they are too many."""
        self._builder.add(event)
        self._standing.refuse(event.num_refused)
        self._check_failures(is_end=True)
        if self._reason_to_stop is not None:
            raise self._reason_to_stop

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

    def _event(self, kept: Admitted, batch: Batch, num_written: int) -> BatchCommitted:
        """Return what is to be told of a batch that is done, all of its failures included."""
        now = self._clock()
        kept.watch.lap(COMMIT, now)
        by_kind = Counter(f"{failure.stage}: {failure.error}" for failure in batch.failures)
        return BatchCommitted(
            batch=batch.index,
            num_read=kept.num_read,
            num_written=num_written,
            num_failed=len(batch.failures),
            num_filtered=batch.num_filtered,
            num_expanded=batch.num_expanded,
            latency_s=now - kept.admitted_s,
            elapsed_s=now - self._started_s,
            tasks=batch.tasks,
            failures=dict(by_kind),
            spent=kept.watch.spent,
            failed=_failed(batch.failures),
            filtered=batch.filtered,
            is_kept=not self._outlet.commits_later,
        )

    def _note(self, event: Event) -> None:
        self._builder.add(event)
        self._outlet.note(event)

    def _end(self, event: JobFinished) -> Report:
        self._note(event)
        self.close()
        report = self._builder.report()
        self._standing.end(report)
        return report


def _failed(failures: Sequence[Failure]) -> dict[str, str]:
    """Return what happened to records that failed, by the id that they were read with."""
    return {
        failure.root or failure.id: f"{failure.stage}: {failure.error}: "
        f"{failure.message[:_MOST_SAID_CHARS]}"
        for failure in failures
        if failure.root or failure.id
    }
