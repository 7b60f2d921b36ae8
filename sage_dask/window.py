"""The batches of one job that are on their way through a Dask cluster.

The driver hands out batches while the window has room and takes results as they
complete, so neither it nor the scheduler ever holds more than the window, and a
result is released as soon as it is taken.
"""

from __future__ import annotations

import math
import secrets
from asyncio import CancelledError
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, TypeAlias

from distributed import Client, Future, KilledWorker
from distributed.client import FutureCancelledError
from distributed.comm import CommClosedError

from sage_dask.errors import RunError, SageError, SchedulerLostError
from sage_dask.graph import Claim, build_graph
from sage_dask.job import Job
from sage_dask.options import RunOptions
from sage_dask.ordered import Ordered
from sage_dask.plan import READ
from sage_dask.portable import fail_stranded
from sage_dask.record import Batch, Record
from sage_dask.runner import is_remembered, note_outage
from sage_dask.schedule import job_name
from sage_dask.scheduling.on_dask.orders import Order
from sage_dask.scheduling.on_dask.standstill import standstill
from sage_dask.scheduling.statistics import Load
from sage_dask.spent import ADMISSION, AWAY, LOST, RETURN
from sage_dask.suspects import Part, Suspects
from sage_dask.watchdog import Watchdog
from sage_dask.worker import Program, pack, unpack
from sage_dask.worker_deaths import death_of, rss_at_kill

# A batch per thread at work, one waiting beside it and one on the wire keep threads fed
# while the driver writes; more would only add latency.
WAVES_PER_THREAD = 3

# Ordered output waits for its slowest batch.  The window stays full meanwhile, as long as
# finished batches may pile up behind it to several windows.
REORDER_WINDOWS = 4

# Records in the cluster for each request that servers should have now, so that those that start
# next are there when the limits grow.
SERVER_WINDOWS = 1.25

# How often it is looked whether anything comes back at all.
_LOOK_S = 1.0

# What a run waits for: batches that are back, with their time, and a nudge.
News: TypeAlias = "SimpleQueue[tuple[Future, Any, float] | None]"


@dataclass(frozen=True, slots=True)
class _Sent:
    """A batch as it was handed to the cluster."""

    index: int
    packed: bytes
    num_records: int
    priority: float
    start: int
    """Tasks that it had passed."""
    stop: int
    """Tasks that it will have passed when it is back."""
    part: Part | None = None
    """The part of a suspect that it is."""


class Window:
    """Passes the source of a job through a cluster.

    Args:
        client: Of the cluster.
        job: Admits the batches, and takes them back.
        programs: The pickled stages by task name.
        news: Gets what the window waits for; None where there may be something new.
        options: Of the run.
        publish: Called at every turn, once a second at least, for those who watch the job.
    """

    def __init__(
        self,
        client: Client,
        job: Job,
        programs: Mapping[str, Program],
        news: News,
        options: RunOptions,
        publish: Callable[[], object] = lambda: None,
    ) -> None:
        self._client = client
        self._job = job
        self._programs = programs
        self._news = news
        self._publish = publish
        self._has_journal = options.has_journal
        self._is_fixed = options.max_in_flight is not None
        """Whether the user has set the size, which then holds for servers, too."""
        self._size = options.max_in_flight or WAVES_PER_THREAD * job.num_threads
        self._scheduling = options.scheduling
        self._in_flight: dict[Future, _Sent] = {}
        self._ready: deque[Batch] = deque()
        """Batches that may go on, since what they have is safe."""
        self._suspects = Suspects(partial(rss_at_kill, client))
        self._is_exhausted = False
        tasks = job.plan.stages
        self._endpoints = {url for task in tasks for url in task.endpoints}
        self._gates = {name for task in tasks for name in task.gates}
        self._load = Load()
        self._num_computing = 0 if all(task.is_async for task in tasks) else self._size
        """Batches for the stages that compute."""
        self._num_records = 0
        self._wanted_requests = 0.0
        self._watchdog = Watchdog(
            self._standstill, partial(job.note, "progress"), options.max_stall_s
        )
        name = job_name(job.plan.pipeline, job.id)
        self._ordered = Ordered(name, client.scheduler.address, job.note)

    def observe_load(self, load: Load) -> None:
        """Learn how many requests the servers should have; called on the client's own loop."""
        own = self._load = load.of(self._gates, self._endpoints)
        self._wanted_requests = sum(own.wanted.values())
        self._news.put(None)

    def obey(self, order: Order) -> None:
        """Take an operator's order; called on the client's own loop."""
        self._ordered.obey(order)
        self._news.put(None)

    def run(self) -> None:
        """Pass the whole source through the cluster.

        Raises:
            JobCancelledError: An operator ended the job; what was under way is cancelled.
        """
        try:
            self._publish()
            self._fill()
            while self._in_flight or self._job.num_pending:
                self._publish()
                news = self._next()
                if news is not None:
                    self._watchdog.progressed()
                    self._take(*news)
                self._fill()
        finally:
            # Empty unless something went wrong.
            if self._is_connected:
                self._client.cancel(list(self._in_flight))

    @property
    def _is_connected(self) -> bool:
        return bool(self._client.status == "running")

    def _next(self) -> tuple[Future, Any, float] | None:
        """Wait for what comes next, and look every now and then why nothing does."""
        try:
            news = self._news.get(timeout=_LOOK_S)
        except Empty:
            news = None
        self._ordered.check()
        if self._ordered.is_paused:
            self._watchdog.progressed()
        elif news is None:
            # Also after a nudge: servers may tell of themselves all the time.
            self._watchdog.look()
        if news is None:
            self._show_load()
        return news

    def _show_load(self) -> None:
        """Show how gates and servers are; here, as an observer may be waiting for the client."""
        load = self._load
        self._job.show_load(load.gates, load.servers)
        for endpoint, server in load.servers.items():
            note_outage(self._job, endpoint, server.down_s)

    def _standstill(self) -> str:
        """Return why nothing comes back."""
        if not self._in_flight:
            return "the journal's disk is slow to take what is done"
        return standstill(self._client, [future.key for future in self._in_flight])

    def _fill(self) -> None:
        """Hand out batches while there is room; suspects first, and each case of them alone."""
        self._ready += self._job.collect()
        if self._suspects:
            if not self._in_flight and not self._job.is_stopping:
                for part in self._suspects.next_case():
                    self._send(part.batch, part)
            return
        while self._has_room():
            batch = self._ready.popleft() if self._ready else self._job.admit()
            if batch is None:
                self._is_exhausted = True
                return
            self._send(batch)

    def _send(self, batch: Batch, part: Part | None = None) -> None:
        packed = self._packed(batch, is_as_read=part is None and not batch.start)
        if part is None:
            self._job.size.observe_bytes(len(batch), len(packed))
        stop = self._stop(batch.start)
        self._submit(
            _Sent(batch.index, packed, len(batch), batch.priority, batch.start, stop, part)
        )

    def _stop(self, start: int) -> int:
        """Return how many tasks a batch will have passed when it is back.

        It comes back to the driver wherever what it has is to be safe before it goes on.
        """
        tasks = self._job.plan.stages
        last = len(tasks)
        if not self._has_journal:
            return last
        return next((n for n in range(start + 1, last) if tasks[n - 1].is_remembered), last)

    def _submit(self, sent: _Sent) -> None:
        """Submit a graph of its own: Dask serves graphs in the order in which they come.

        Within one graph it would serve unconnected chains in the order of their keys as
        text, last first, and ordered output would wait for the first batch of all.
        """
        (output,) = build_graph(
            self._job.plan.pipeline,
            self._job.plan.stages[sent.start : sent.stop],
            self._programs,
            # Suspects run again under keys that the first try never had.
            self._job.id if sent.part is None else secrets.token_hex(4),
            {sent.index: sent.packed},
            Claim(self._job.id, self._scheduling, sent.priority),
            num_records=sent.num_records,
        )
        # As compute() does, but without optimising a graph that is as it should be (a sixth
        # of the driver's time), and with a later place in the queue for every later call.
        future = self._client.get(output.dask, output.key, sync=False, fifo_timeout="0s")
        self._in_flight[future] = sent
        self._num_records += sent.num_records
        # A suspect runs again, and waited for its turn, because a worker died.
        self._job.lap(sent.index, ADMISSION if sent.part is None else LOST)
        self._client.loop.add_callback(self._fetch, future)

    async def _fetch(self, future: Future) -> None:
        """Put a result, or the error in its place, where the driver waits for it.

        Dask's ``as_completed`` never tells of a batch that was done, was lost with its worker
        before it was fetched, and then failed.
        """
        try:
            result = await self._client.gather(future, asynchronous=True)
        except (Exception, CancelledError) as error:
            result = error
        self._news.put((future, result, self._job.now_s))

    def _packed(self, batch: Batch, *, is_as_read: bool) -> bytes:
        """Pickle a batch; records that can not be fail here, and are kept as they are."""
        try:
            packed = pack(batch)
        except Exception:
            fail_stranded(batch, READ)
            return pack(batch)
        if is_as_read:
            # A tenth of the memory that the records take, for as long as they are away.
            self._job.keep_inputs(batch.index, partial(_as_read, packed))
        return packed

    def _has_room(self) -> bool:
        size = max(self._size, self._num_computing + self._num_waiting())
        return (
            not self._job.is_stopping
            and not (self._is_exhausted and not self._ready)
            # A batch has its place until it is safe.
            and len(self._in_flight) + self._job.num_pending < size
            and self._job.num_unwritten < REORDER_WINDOWS * size
        )

    def _num_waiting(self) -> int:
        """Return how many batches more are to be there, so that servers always have requests."""
        if self._is_fixed or not self._in_flight:
            return 0
        mean = self._num_records / len(self._in_flight)
        return math.ceil(SERVER_WINDOWS * self._wanted_requests / max(mean, 1.0))

    def _take(self, future: Future, result: Any, back_s: float) -> None:
        sent = self._in_flight.pop(future)
        self._num_records -= sent.num_records
        self._job.lap(sent.index, LOST if isinstance(result, KilledWorker) else AWAY, back_s)
        self._job.lap(sent.index, RETURN)
        try:
            whole = self._outcome(sent, result, future.status)
            if whole is not None:
                whole.start, whole.priority = sent.stop, sent.priority
                self._pass_on(whole)
        finally:
            # Also where writing fails: the error's frames would keep the result on its worker.
            future.release()

    def _pass_on(self, batch: Batch) -> None:
        if self._has_journal and is_remembered(self._job.plan, batch):
            self._job.remember(batch)
        else:
            self._job.settle(batch)

    def _outcome(self, sent: _Sent, result: Any, status: str) -> Batch | None:
        """Return the batch that is back; None where some of its records are not yet.

        Raises:
            RunError: The cluster dropped it, or its task broke outside its operators.
        """
        if isinstance(result, CommClosedError):
            # Results are fetched through the scheduler; the client may not know yet that it died.
            raise self._lost()
        if isinstance(result, CancelledError | FutureCancelledError):
            raise self._dropped(status)
        if isinstance(result, KilledWorker):
            if sent.part is not None:
                return self._suspects.died(sent.part, death_of(result))
            batch = unpack(sent.packed, sent.index)
            batch.start, batch.priority = sent.start, sent.priority
            self._suspects.accuse(batch)
            return None
        if isinstance(result, SageError):
            raise result
        if isinstance(result, BaseException):
            raise RunError(
                f"a task broke outside its operators: {type(result).__name__}: {result}"
            ) from result
        return result if sent.part is None else self._suspects.survived(sent.part, result)

    def _dropped(self, status: str) -> RunError:
        if not self._is_connected:
            return self._lost()
        address = self._client.scheduler.address
        return RunError(
            f"job {self._job.id!r}: someone cancelled its tasks on {address} ({status}); run again"
        )

    def _lost(self) -> SchedulerLostError:
        return SchedulerLostError(
            f"job {self._job.id!r}: scheduler {self._client.scheduler.address} is gone, and with "
            "it all that was under way; start it again, or run without that cluster"
        )


def _as_read(packed: bytes) -> tuple[Sequence[str], Sequence[Record]]:
    batch = unpack(packed, 0)
    return batch.ids, batch.records
