"""Runs plans on a Dask cluster: what it takes before the first batch and after the last."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import partial
from queue import SimpleQueue
from typing import Any

import dask
from distributed import Client

from sage_dask.dashboard.monitor import MonitorPlugin
from sage_dask.dashboard.publisher import publishing
from sage_dask.errors import RunError, SageError, counted
from sage_dask.job import Job
from sage_dask.nodes import NODE, node_name
from sage_dask.options import Machines, RunOptions
from sage_dask.plan import Plan
from sage_dask.reach import reach
from sage_dask.report import Report
from sage_dask.runner import running, stoppable
from sage_dask.schedule import Scheduling, job_name
from sage_dask.scheduling.on_dask.configured import is_observed
from sage_dask.scheduling.on_dask.control import SchedulerControl
from sage_dask.scheduling.on_dask.message_log import shorten_message_logs
from sage_dask.scheduling.on_dask.orders import hearing
from sage_dask.window import News, Window
from sage_dask.worker import Program, make_program, prepare, release

logger = logging.getLogger("sage_dask")

# The batch lies within the graph on purpose, and is as large as its largest record.
_SETTINGS = {"distributed.admin.large-graph-warning-threshold": "1TiB"}


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
        self._is_watched = False
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
        self._is_watched = is_observed() and self._watch()
        with self._arranged(options.scheduling):
            return self._run(plan, options)

    def _watch(self) -> bool:
        """Have the scheduler show its jobs; that it can not is no reason to run none."""
        try:
            self._client.register_plugin(MonitorPlugin())
        except Exception:
            logger.warning("nobody can watch this run: no monitor on the scheduler", exc_info=True)
            return False
        return True

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
        news: News = SimpleQueue()
        with Job(plan, options, self._machines(), wake=partial(news.put, None)) as job:
            name = job_name(plan.pipeline, job.id)
            programs = {task.name: make_program(task, job=name) for task in plan.stages}
            try:
                started = time.perf_counter()
                self._prepare(programs.values())
                startup_s = {**self._startup_s, "operators": time.perf_counter() - started}
                with self._published(name, job) as publish, running(job, startup_s):
                    window = Window(self._client, job, programs, news, options, publish)
                    with (
                        stoppable(job, options, partial(news.put, None)),
                        hearing(self._client, name, window.obey),
                    ):
                        self._pass_through(window)
                    return job.finish()
            finally:
                self._release(programs.values())

    def _published(self, name: str, job: Job) -> AbstractContextManager[Callable[[], object]]:
        """Lend what tells those who watch how far the job is."""
        if not self._is_watched:
            return nullcontext(lambda: None)
        return publishing(self._client, name, job.progress)

    def _pass_through(self, window: Window) -> None:
        """Have the whole source go through the cluster."""
        with dask.config.set(_SETTINGS), self._control.load(window.observe_load):
            window.run()

    def _machines(self) -> Machines:
        workers = self._workers.values()
        threads = sum(worker["nthreads"] for worker in workers)
        nodes = sorted({node_name(worker.get(NODE), worker["host"]) for worker in workers})
        several = f" ({len(workers)} workers)" if len(workers) > len(nodes) else ""
        on = f"{counted(len(nodes), 'Dask node')}{several}, {counted(threads, 'thread')}"
        return Machines(f"on {on}", nodes, threads, has_keys=True)

    def _prepare(self, programs: Iterable[Program]) -> None:
        """Make operators ready on every worker, before the first record is spent."""
        results = self._client.run(_in_thread, prepare, list(programs), on_error="return")
        # A worker that went away meanwhile is not unfit; what is ready takes its place.
        there = {each: result for each, result in results.items() if not _is_gone(result)}
        if not there:
            raise RunError(
                f"no worker of {self._client.scheduler.address} is left of {len(results)}; look "
                "into their logs, and start some"
            )
        for address, result in there.items():
            if isinstance(result, SageError):
                raise result
            if isinstance(result, BaseException):
                raise RunError(
                    f"worker {address} could not be made ready: {type(result).__name__}: {result}; "
                    "a module that it lacks must be installed there, anything else is in its log"
                ) from result

    def _release(self, programs: Iterable[Program]) -> None:
        if self._client.status != "running":
            # A question would wait half a minute for the scheduler to come back.
            return
        digests = [program.digest for program in programs]
        with suppress(Exception):
            self._client.run(_in_thread, release, digests, on_error="return")


def _is_gone(result: Any) -> bool:
    """Return whether a worker's answer is that nobody could be reached."""
    return isinstance(result, OSError)


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
    if isinstance(on, str):
        reach(on)
    try:
        client = Client(on, set_as_default=False)
    except (OSError, ValueError) as error:
        raise RunError(
            f"no Dask scheduler answers at {on!r} ({error}); look whether it runs, or start one "
            "with 'dask scheduler'"
        ) from error
    with client:
        yield client
