"""Runs plans on a Dask cluster, a bounded window of batches at a time.

The driver hands out batches while the window has room and takes results as they
complete, so neither it nor the scheduler ever holds more than the window, and a
result is released as soon as it is written.
"""

from __future__ import annotations

import asyncio
import math
import secrets
import time
from asyncio import CancelledError
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from queue import SimpleQueue
from typing import Any

import dask
from distributed import Client, Future, KilledWorker
from distributed.client import FutureCancelledError
from distributed.comm import resolve_address

from sage_dask.errors import RunError, SageError, counted
from sage_dask.graph import Claim, build_graph
from sage_dask.job import Job
from sage_dask.nodes import NODE, node_name
from sage_dask.options import Machines, RunOptions
from sage_dask.plan import READ, Plan
from sage_dask.portable import fail_stranded
from sage_dask.record import Batch, Failure, Record
from sage_dask.report import Report
from sage_dask.runner import note_outage, running
from sage_dask.schedule import Scheduling, job_name
from sage_dask.scheduling.on_dask.control import SchedulerControl, ServerStatus
from sage_dask.scheduling.on_dask.message_log import shorten_message_logs
from sage_dask.worker import Program, make_program, pack, prepare, release, unpack

# A batch per thread at work, one waiting beside it and one on the wire keep threads fed
# while the driver writes; more would only add latency.
WAVES_PER_THREAD = 3

# The batch lies within the graph on purpose, and is as large as its largest record.
_SETTINGS = {"distributed.admin.large-graph-warning-threshold": "1TiB"}

# Ordered output waits for its slowest batch.  The window stays full meanwhile, as long as
# finished batches may pile up behind it to several windows.
REORDER_WINDOWS = 4

# Records in the cluster for each request that servers should have now, so that those that start
# next are there when the limits grow.
SERVER_WINDOWS = 1.25


class DaskRunner:
    """Runs plans on the workers of a Dask client.

    Args:
        client: Connected, with at least one worker; stays open.
        startup_s: Seconds already spent starting the cluster, for the report.
    """

    def __init__(self, client: Client, *, startup_s: float | None = None) -> None:
        self._client = client
        self._startup_s = {} if startup_s is None else {"cluster": startup_s}
        self._control = SchedulerControl(client)
        # Not ``client.scheduler_info``: its answer is shared with a periodic question for none.
        identity = client.sync(client.scheduler.identity, n_workers=-1)
        self._workers: Mapping[str, Any] = identity["workers"]
        if not self._workers:
            raise RunError(
                f"scheduler {client.scheduler.address} has no workers; start some with "
                f"'dask worker {client.scheduler.address}', or run without a cluster"
            )

    def worker_resources(self) -> Sequence[Mapping[str, float]]:
        """Return what each worker supplies."""
        return [worker["resources"] for worker in self._workers.values()]

    def gates(self) -> Mapping[str, float]:
        """Return the limit of each gate that the cluster has."""
        return self._control.gates()

    def run(self, plan: Plan, options: RunOptions) -> Report:
        """Run a plan to its end and return what it cost."""
        shorten_message_logs(self._client)
        with self._arranged(options.scheduling):
            return self._run(plan, options)

    @contextmanager
    def _arranged(self, scheduling: Scheduling) -> Iterator[None]:
        """Have the cluster place tasks as asked, and log what it has to say meanwhile."""
        if scheduling.is_stock:
            yield
            return
        # Listening first: there may be something to say of the start.
        with self._control.notices():
            self._control.start()
            if scheduling.policy is not None:
                self._control.set_policy(scheduling.policy)
            for gate, limit in scheduling.gates.items():
                self._control.set_gate(gate, limit)
            yield

    def _run(self, plan: Plan, options: RunOptions) -> Report:
        job = Job(plan, options, self._machines())
        name = job_name(plan.pipeline, job.id)
        programs = {task.name: make_program(task, job=name) for task in plan.stages}
        try:
            started = time.perf_counter()
            self._prepare(programs.values())
            startup_s = {**self._startup_s, "operators": time.perf_counter() - started}
            with running(job, startup_s):
                with dask.config.set(_SETTINGS):
                    claim = Claim(job.id, options.scheduling)
                    window = _Window(
                        self._client,
                        job,
                        programs,
                        claim,
                        size=self._size(options),
                        is_fixed=options.max_in_flight is not None,
                    )
                    with self._control.servers(window.observe_servers):
                        window.run()
                return job.finish()
        finally:
            self._release(programs.values())

    def _machines(self) -> Machines:
        workers = self._workers.values()
        threads = sum(worker["nthreads"] for worker in workers)
        nodes = sorted({node_name(worker.get(NODE), worker["host"]) for worker in workers})
        several = f" ({len(workers)} workers)" if len(workers) > len(nodes) else ""
        on = f"{counted(len(nodes), 'Dask node')}{several}, {counted(threads, 'thread')}"
        return Machines(f"on {on}", nodes, threads)

    def _size(self, options: RunOptions) -> int:
        return options.max_in_flight or WAVES_PER_THREAD * self._machines().num_threads

    def _prepare(self, programs: Iterable[Program]) -> None:
        """Make operators ready on every worker, before the first record is spent."""
        results = self._client.run(_in_thread, prepare, list(programs), on_error="return")
        for address, result in results.items():
            if isinstance(result, SageError):
                raise result
            if isinstance(result, BaseException):
                raise RunError(
                    f"worker {address} could not be made ready: {type(result).__name__}: {result}; "
                    "a module that it lacks must be installed there, anything else is in its log"
                ) from result

    def _release(self, programs: Iterable[Program]) -> None:
        digests = [program.digest for program in programs]
        with suppress(Exception):
            self._client.run(_in_thread, release, digests, on_error="return")


class _Window:
    """The batches of one job that are on their way through the cluster."""

    def __init__(
        self,
        client: Client,
        job: Job,
        programs: Mapping[str, Program],
        claim: Claim,
        *,
        size: int,
        is_fixed: bool,
    ) -> None:
        self._client = client
        self._job = job
        self._programs = programs
        self._size = size
        self._is_fixed = is_fixed
        """Whether the user has set the size, which then holds for servers, too."""
        self._claim = claim
        self._in_flight: dict[Future, _Sent] = {}
        self._suspects: deque[_Sent] = deque()
        self._completed: SimpleQueue[tuple[Future, Any] | None] = SimpleQueue()
        """Batches that are back; None where there may be room for more."""
        self._is_exhausted = False
        self._endpoints = {url for task in job.plan.stages for url in task.endpoints}
        self._num_computing = 0 if all(task.is_async for task in job.plan.stages) else size
        """Batches for the stages that compute."""
        self._num_records = 0
        self._wanted_requests = 0.0

    def observe_servers(self, status: Mapping[str, ServerStatus]) -> None:
        """Learn how many requests the servers should have; called on the client's own loop."""
        own = {url: server for url, server in status.items() if url in self._endpoints}
        self._wanted_requests = sum(server["wanted"] or 0.0 for server in own.values())
        self._completed.put(None)
        for endpoint, server in own.items():
            note_outage(self._job, endpoint, server["down_s"])

    def run(self) -> None:
        """Pass the whole source through the cluster."""
        try:
            self._fill()
            while self._in_flight:
                completed = self._completed.get()
                if completed is not None:
                    self._take(*completed)
                self._fill()
        finally:
            # Empty unless something went wrong.
            self._client.cancel(list(self._in_flight))

    def _fill(self) -> None:
        """Hand out batches while there is room; suspects first, and each of them alone."""
        if self._suspects:
            if not self._in_flight:
                self._submit(self._suspects.popleft())
            return
        while self._has_room():
            batch = self._job.admit()
            if batch is None:
                self._is_exhausted = True
                return
            self._send(batch)

    def _send(self, batch: Batch) -> None:
        packed = self._packed(batch)
        self._job.size.observe_bytes(len(batch), len(packed))
        self._submit(_Sent(batch.index, packed, len(batch), self._job.id, batch.priority))

    def _submit(self, sent: _Sent) -> None:
        """Submit a graph of its own: Dask serves graphs in the order in which they come.

        Within one graph it would serve unconnected chains in the order of their keys as
        text, last first, and ordered output would wait for the first batch of all.
        """
        claim = replace(self._claim, priority=sent.priority)
        (output,) = build_graph(
            self._job.plan,
            self._programs,
            sent.keys,
            {sent.index: sent.packed},
            claim,
            num_records=sent.num_records,
        )
        # As compute() does, but without optimising a graph that is as it should be (a sixth
        # of the driver's time), and with a later place in the queue for every later call.
        future = self._client.get(output.dask, output.key, sync=False, fifo_timeout="0s")
        self._in_flight[future] = sent
        self._num_records += sent.num_records
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
        self._completed.put((future, result))

    def _packed(self, batch: Batch) -> bytes:
        """Pickle a batch; records that can not be fail here, and are kept as they are."""
        try:
            packed = pack(batch)
        except Exception:
            fail_stranded(batch, READ)
            return pack(batch)
        # A tenth of the memory that the records take, for as long as they are away.
        self._job.keep_inputs(batch.index, partial(_as_read, packed))
        return packed

    def _has_room(self) -> bool:
        size = max(self._size, self._num_computing + self._num_waiting())
        return (
            not self._is_exhausted
            and len(self._in_flight) < size
            and self._job.num_unwritten < REORDER_WINDOWS * size
        )

    def _num_waiting(self) -> int:
        """Return how many batches more are to be there, so that servers always have requests."""
        if self._is_fixed or not self._in_flight:
            return 0
        mean = self._num_records / len(self._in_flight)
        return math.ceil(SERVER_WINDOWS * self._wanted_requests / max(mean, 1.0))

    def _take(self, future: Future, result: Any) -> None:
        sent = self._in_flight.pop(future)
        self._num_records -= sent.num_records
        try:
            if isinstance(result, CancelledError | FutureCancelledError):
                raise RunError(
                    f"job {self._job.id!r}: the cluster dropped its tasks ({future.status}); the "
                    "scheduler went away, or someone cancelled them; run again"
                )
            if isinstance(result, BaseException):
                self._take_error(sent, result)
            else:
                self._job.settle(result)
        finally:
            # Also where writing fails: the error's frames would keep the result on its worker.
            future.release()

    def _take_error(self, sent: _Sent, error: BaseException) -> None:
        """Fail a batch whose worker died, unless others were there that may have killed it.

        Dask blames all tasks that a worker held, also those that had not begun, so suspects
        run once more with the cluster to themselves.
        """
        if isinstance(error, KilledWorker) and not sent.is_alone:
            self._suspects.append(sent.alone())
        else:
            self._job.settle(_failed(sent.index, self._job.ids_of(sent.index), error))


@dataclass(frozen=True, slots=True)
class _Sent:
    """A batch as it was handed to the cluster."""

    index: int
    packed: bytes
    num_records: int
    keys: str
    """What keeps its keys apart from others: the job's id, or digits of its own."""
    priority: float
    is_alone: bool = False

    def alone(self) -> _Sent:
        """Return the batch for another try, under keys that the first one never had."""
        return replace(self, keys=secrets.token_hex(4), is_alone=True)


def _as_read(packed: bytes) -> tuple[Sequence[str], Sequence[Record]]:
    ids, records, _ = unpack(packed)
    return ids, records


def _failed(index: int, ids: Sequence[str], error: BaseException) -> Batch:
    """Fail the records of a batch whose workers died; anything else ends the run."""
    if isinstance(error, SageError):
        raise error
    if not isinstance(error, KilledWorker):
        raise RunError(
            f"a task broke outside its operators: {type(error).__name__}: {error}"
        ) from error
    message = (
        f"the workers that ran this record's batch of {len(ids)} died, also when nothing else "
        f"ran; look into the log of {error.last_worker.address} for memory or a crash"
    )
    attempts = 2 * (error.allowed_failures + 1)
    failures = [
        Failure(record_id, "worker", "KilledWorker", message, attempts=attempts)
        for record_id in ids
    ]
    return Batch(index, [], [], failures)


async def _in_thread(function: Any, argument: Any) -> Any:
    """Run on a worker without holding up its event loop, and with it the heartbeat."""
    return await asyncio.to_thread(function, argument)


@contextmanager
def connected(on: Any) -> Iterator[DaskRunner]:
    """Lend a runner for a client, a cluster, a scheduler's address or nodes of ours."""
    with client_of(on) as client:
        yield DaskRunner(client, startup_s=getattr(on, "startup_s", None))


@contextmanager
def client_of(on: Any) -> Iterator[Client]:
    """Lend a client for whatever the user named.

    A client that is given stays open; one that is made here is closed again.

    Raises:
        RunError: No scheduler answers there.
    """
    client = on if isinstance(on, Client) else getattr(on, "client", None)
    if client is not None:
        yield client
        return
    try:
        if isinstance(on, str):
            # Met by the client, a malformed address leaves one behind that hangs at exit.
            resolve_address(on)
        client = Client(on, set_as_default=False)
    except (OSError, ValueError) as error:
        raise RunError(
            f"no Dask scheduler answers at {on!r} ({error}); start one with 'dask scheduler', "
            "or leave it out to run in this process"
        ) from error
    with client:
        yield client
