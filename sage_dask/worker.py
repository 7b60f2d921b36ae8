"""What runs on a Dask worker: one task of one batch.

A task carries its stages as opaque bytes with their digest.  The scheduler
never unpickles them, so it imports no user code; a worker does so once per
digest and keeps the executor, models and all, for the tasks that follow.
"""

from __future__ import annotations

import asyncio
import hashlib
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

import cloudpickle
from distributed import Worker, get_worker
from distributed.comm import get_address_host, resolve_address
from distributed.protocol import pickle

from sage_dask import aio
from sage_dask.endpoint.context import RequestContext
from sage_dask.errors import PlanError, RunError, SageError, StopRun
from sage_dask.execute import TaskExecutor
from sage_dask.governor import own_governor
from sage_dask.nodes import NODE, node_name
from sage_dask.plan import StagePlan
from sage_dask.portable import fail_stranded
from sage_dask.record import Batch
from sage_dask.scheduling.on_dask.arrivals import told_of
from sage_dask.scheduling.on_dask.worker_slots import secede, slots_of
from sage_dask.spent import PACKING

# A program is sent with every task.  A megabyte in each of them is a model or a table that
# was captured by accident, and belongs into setup().
PROGRAM_LIMIT_BYTES = 1 << 20

# Fields of a batch that go to a worker; the others are the driver's.
_TRAVELS = ("ids", "records", "failures", "filtered", "num_expanded", "tasks", "roots")

# By digest; None for those of a job that has ended, so that a task which outlives its job's
# end can not bring its operators back to life.
_executors: dict[str, TaskExecutor | None] = {}
_lock = threading.Lock()


class Program(NamedTuple):
    """The stages of one task, as they travel."""

    digest: str
    pickled: bytes
    job: str
    """For whom: ``"pipeline/id"``."""


def make_program(task: StagePlan, *, job: str) -> Program:
    """Pickle the stages of a task.

    Args:
        task: The stages, not set up.
        job: Its name.  Keeps executors of different jobs apart, so that one job's end can let
            go of its own.

    Raises:
        PlanError: An operator can not be pickled or is too large to travel with every task.
    """
    try:
        pickled: bytes = cloudpickle.dumps(task, protocol=5)
    except Exception as error:
        raise PlanError(
            f"task {task.name!r} can not be sent to workers ({type(error).__name__}: {error}); "
            "make connections, locks and open files in setup(), not in the constructor"
        ) from error
    if len(pickled) > PROGRAM_LIMIT_BYTES:
        raise PlanError(
            f"task {task.name!r} takes {len(pickled):,} bytes pickled, and travels with every "
            f"batch (limit {PROGRAM_LIMIT_BYTES:,}); load large data in setup(), or pass a path"
        )
    return Program(hashlib.sha256(job.encode() + pickled).hexdigest(), pickled, job)


def run_task(
    digest: str, pickled: bytes, job: str, batch: Batch | bytes, index: int, layer: str
) -> Batch:
    """Run one task on one batch in the caller's thread.

    Args:
        digest: Of the program.
        pickled: Its stages.
        job: Its job.
        batch: The first task of a chain gets it pickled.
        index: Of the batch.
        layer: With the index, its own key.
    """
    told = _Told((layer, index))
    executor = _executor(digest, pickled)
    context = own_governor().context(job, executor.endpoints)
    with _errors_in_order():
        batch = executor.run(_unpacked(batch, index), node=_node(), context=context)
    fail_stranded(batch, batch.tasks[-1].stages[-1].stage)
    told.add_to(batch)
    return batch


async def run_waiting_task(
    digest: str, pickled: bytes, job: str, batch: Batch | bytes, index: int, layer: str
) -> Batch:
    """Run one task that waits for others, as ``run_task`` does, on a worker with a dispatcher.

    It holds no thread; its requests take the slots that the dispatcher allots to the worker.
    With its layer and index it knows its own key.
    """
    told = _Told((layer, index))
    worker = get_worker()
    secede(worker, (layer, index))
    executor = _executor(digest, pickled)
    context = partial(RequestContext, slots_of(worker), job, (layer, index))
    work = executor.run_waiting(_unpacked(batch, index), node=_node(), context=context)
    with _errors_in_order():
        batch = await asyncio.wrap_future(aio.submit(work))
    fail_stranded(batch, batch.tasks[-1].stages[-1].stage)
    told.add_to(batch)
    return batch


class _Told:
    """What is known of a task beside what it computes; made as it starts.

    Args:
        key: Of the task.
    """

    def __init__(self, key: object) -> None:
        self._waits, self._reason = told_of(_worker(), key)
        self._started_s = time.perf_counter()

    def add_to(self, batch: Batch) -> None:
        """Add it to the batch's latest timing, with what the task took outside its stages."""
        timing = batch.tasks[-1]
        outside_s = time.perf_counter() - self._started_s - timing.seconds - timing.setup_seconds
        waits = {**self._waits, PACKING: max(0.0, outside_s)}
        batch.tasks[-1] = timing._replace(waits=waits, reason=self._reason)


@contextmanager
def _errors_in_order() -> Iterator[None]:
    """Have errors leave as they may travel, and none of them end the worker."""
    try:
        yield
    except SageError as error:
        _drop_hidden_context(error)
        raise
    except KeyboardInterrupt:
        # Ctrl-C is the driver's; from an operator, it would end this worker's thread.
        raise StopRun("an operator raised KeyboardInterrupt, so the run was stopped") from None


def _unpacked(batch: Batch | bytes, index: int) -> Batch:
    return unpack(batch, index) if isinstance(batch, bytes) else batch


def prepare(programs: Iterable[Program]) -> float:
    """Make the operators of some tasks ready on this worker; return the seconds it took."""
    return sum(_executor(program.digest, program.pickled).setup() for program in programs)


def release(digests: Iterable[str]) -> None:
    """Tear down the operators of some tasks on this worker."""
    for digest in digests:
        with _lock:
            executor, _executors[digest] = _executors.get(digest), None
        if executor is not None:
            executor.teardown()


def pack(batch: Batch) -> bytes:
    """Pickle what a worker needs of a batch, so that the scheduler passes on one blob."""
    packed: bytes = pickle.dumps(tuple(getattr(batch, name) for name in _TRAVELS))
    return packed


def unpack(packed: bytes, index: int) -> Batch:
    """Return the batch that ``pack`` was given, without what only the driver knows of it."""
    return Batch(index, **dict(zip(_TRAVELS, pickle.loads(packed), strict=True)))


def _drop_hidden_context(error: BaseException) -> None:
    """Forget what ``raise ... from None`` hid: Dask would pickle it all the same.

    What is hidden may quote a server's answer, and that may repeat a key.
    """
    link: BaseException | None = error
    while link is not None:
        if link.__suppress_context__:
            link.__context__ = None
        link = link.__cause__ or link.__context__


def _worker() -> Worker | None:
    """Return the worker that the caller's task runs on; Dask's own schedulers have none."""
    try:
        return get_worker()
    except ValueError:
        return None


def _node() -> str:
    """Return the name of this worker's node."""
    worker = _worker()
    if worker is None:
        return "local"
    declared = worker.startup_information.get(NODE)
    # As the scheduler does, which takes a host by its number.
    host = get_address_host(resolve_address(worker.contact_address))
    return node_name(declared and declared(worker), host)


def _executor(digest: str, pickled: bytes) -> TaskExecutor:
    with _lock:
        if digest not in _executors:
            _executors[digest] = TaskExecutor(cloudpickle.loads(pickled))
        executor = _executors[digest]
    if executor is None:
        raise RunError("the job of this task has ended, so its batch is dropped")
    return executor
