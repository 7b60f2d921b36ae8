"""Who executes a plan: this process, or a Dask cluster.

Both runners drive the same job with the same executor, so their outputs are
equal; they differ in where a batch is while it is worked on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from queue import Empty, SimpleQueue
from typing import Protocol, TypeAlias, runtime_checkable

from sage_dask import aio
from sage_dask.execute import TaskExecutor
from sage_dask.governor import own_governor
from sage_dask.interrupts import stopping_on_signals
from sage_dask.job import Job
from sage_dask.options import Machines, RunOptions
from sage_dask.plan import Plan
from sage_dask.record import Batch
from sage_dask.report import Report
from sage_dask.schedule import job_name
from sage_dask.spent import ADMISSION, HERE, RETURN


@runtime_checkable
class Runner(Protocol):
    """Runs plans, one at a time."""

    def worker_resources(self) -> Sequence[Mapping[str, float]] | None:
        """Return what each worker supplies; None where tasks run one at a time, on anything."""
        ...

    def gates(self) -> Mapping[str, float] | None:
        """Return the limit of each gate; None where nothing is shared, so that none is needed."""
        ...

    def run(self, plan: Plan, options: RunOptions) -> Report:
        """Run a plan to its end and return what it cost."""
        ...


# What a run in this process waits for: batches that have their answers, with their time, and a
# nudge.
News: TypeAlias = "SimpleQueue[tuple[Future[Batch], float] | None]"

# Batches that may be on their way to the disk at once: as many as a commit takes while the next
# ones are worked on, and few, since a crash repeats them.
_PENDING_BATCHES = 8

# Batches that may wait for others than model servers, which say how much they take.
_WAITING_BATCHES = 4

# How often it is looked whether model servers take more, or are down.
_LOOK_S = 0.25


class LocalRunner:
    """Runs a plan in this process and thread: the reference, and the quickest for small inputs.

    Tasks that compute run one at a time and share with nobody, so policy, gates, priorities,
    weight and quota change nothing here, but for gates that bear a model server's URL.  Batches
    that wait for answers do so together.
    """

    node = "local"

    def worker_resources(self) -> None:
        """Return None: tasks run one at a time, so nothing they hold can run out."""

    def gates(self) -> None:
        """Return None: there is nobody to share with."""

    def run(self, plan: Plan, options: RunOptions) -> Report:
        """Run a plan to its end and return what it cost."""
        news: News = SimpleQueue()
        executors = [TaskExecutor(task) for task in plan.stages]
        with Job(plan, options, machines_here(self.node), wake=partial(news.put, None)) as job:
            own_governor().set_limits(options.scheduling.gates)
            try:
                started = time.perf_counter()
                for executor in executors:
                    executor.setup()
                startup_s = {"operators": time.perf_counter() - started}
                with running(job, startup_s):
                    with stoppable(job, options, partial(news.put, None)):
                        _Passage(job, executors, news, options, self.node).run()
                    return job.finish()
            finally:
                for executor in executors:
                    executor.teardown()


class _Passage:
    """The batches of one job on their way through this process.

    Stages that compute run in the caller's thread, one batch at a time.  Stages that wait run
    on the process's loop, as many batches as keep the model servers busy.
    """

    def __init__(
        self,
        job: Job,
        executors: Sequence[TaskExecutor],
        news: News,
        options: RunOptions,
        node: str,
    ) -> None:
        self._job = job
        self._executors = executors
        self._news = news
        self._has_journal = options.has_journal
        self._node = node
        self._most = options.max_in_flight
        self._endpoints = {
            url: limit for each in executors for url, limit in each.endpoints.items()
        }
        self._governor = own_governor()
        self._waiting: dict[Future[Batch], tuple[int, int]] = {}
        """Batches on the loop: the number of their next task, and how many records they have."""

    def run(self) -> None:
        """Pass the whole source through the stages."""
        self._fill()
        while self._waiting or self._job.num_pending:
            self._take()
            self._fill()

    def _fill(self) -> None:
        while True:
            for batch in self._job.collect():
                self._advance(batch)
            if not self._has_room() or (batch_or_none := self._job.admit()) is None:
                return
            self._advance(batch_or_none)

    def _has_room(self) -> bool:
        if self._job.num_pending >= _PENDING_BATCHES:
            return False
        if self._most is not None:
            return len(self._waiting) + self._job.num_pending < self._most
        num_records = sum(number for _, number in self._waiting.values())
        return len(self._waiting) < _WAITING_BATCHES or (
            bool(self._endpoints) and num_records < self._governor.room(self._endpoints)
        )

    def _advance(self, batch: Batch) -> None:
        """Take a batch through its next tasks, up to one that waits or is to be remembered."""
        self._job.lap(batch.index, ADMISSION)
        while batch.start < len(self._executors):
            executor = self._executors[batch.start]
            if executor.is_async:
                self._wait(batch, executor)
                return
            passed = batch.start + 1
            batch = executor.run(batch, node=self._node)
            self._job.lap(batch.index, HERE)
            batch.start = passed
            if self._has_journal and is_remembered(self._job.plan, batch):
                self._job.remember(batch)
                return
        self._job.settle(batch)

    def _wait(self, batch: Batch, executor: TaskExecutor) -> None:
        name = job_name(self._job.plan.pipeline, self._job.id)
        context = self._governor.context(name, executor.endpoints)
        passed, num_records = batch.start + 1, len(batch)
        future = aio.submit(executor.run_waiting(batch, node=self._node, context=context))
        self._waiting[future] = passed, num_records
        future.add_done_callback(self._tell)

    def _tell(self, future: Future[Batch]) -> None:
        self._news.put((future, self._job.now_s))

    def _take(self) -> None:
        """Wait for a batch that has its answers and take it on; not for ever, as limits grow."""
        self._show_servers()
        try:
            news = self._news.get(timeout=_LOOK_S if self._endpoints else None)
        except Empty:
            return
        if news is None:
            return
        future, back_s = news
        passed, _ = self._waiting.pop(future)
        batch = future.result()
        self._job.lap(batch.index, HERE, back_s)
        self._job.lap(batch.index, RETURN)
        batch.start = passed
        if self._has_journal and is_remembered(self._job.plan, batch):
            self._job.remember(batch)
        else:
            self._advance(batch)

    def _show_servers(self) -> None:
        servers = self._governor.load(self._endpoints)
        self._job.show_load({}, servers)
        for endpoint, server in servers.items():
            note_outage(self._job, endpoint, server.down_s)


def is_remembered(plan: Plan, batch: Batch) -> bool:
    """Return whether what a batch has is to be safe before it goes on."""
    goes_on = batch.start < len(plan.stages) and bool(batch.records)
    return goes_on and plan.stages[batch.start - 1].is_remembered


def machines_here(node: str) -> Machines:
    """Return this process as a machine."""
    return Machines("in this process", [node], 1)


def note_outage(job: Job, endpoint: str, down_s: float | None) -> None:
    """Show on a job's progress line that it waits for a server, or not any more."""
    job.note(endpoint, None if down_s is None else f"{endpoint} is down for {down_s:.0f} s: paused")


def stoppable(
    job: Job, options: RunOptions, wake: Callable[[], None]
) -> AbstractContextManager[None]:
    """Have a first signal let end what is under way, where that is kept for the next start."""
    if not options.has_journal:
        return nullcontext()
    return stopping_on_signals(job.stop, wake, partial(job.note, "stop"))


@contextmanager
def running(job: Job, startup_s: Mapping[str, float]) -> Iterator[Job]:
    """Start a job, and abort it in good order if anything ends it early."""
    try:
        job.start(startup_s)
        yield job
    except BaseException as error:
        job.abort(error)
        raise
