"""What no event tells, looked at once a second.

Pauses, memory and processors of workers; whether cancelled tasks have ended; whether
our counts still agree with Dask's; and what people should know.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from itertools import chain, islice
from typing import Any

from distributed import Worker
from distributed.protocol import Serialize, Serialized, deserialize, pickle
from distributed.scheduler import WorkerState
from tornado.ioloop import PeriodicCallback

from sage_dask.schedule import THREADS
from sage_dask.scheduling.invariants import gate_violations, worker_violations
from sage_dask.scheduling.on_dask.held import is_ours, node_of
from sage_dask.scheduling.on_dask.host import Host
from sage_dask.scheduling.statistics import Notice

logger = logging.getLogger(__name__)

EVERY_S = 1.0

# Events of this topic list the nodes that have had no task for a while.
IDLE_TOPIC = "sage-dask-idle-nodes"

# As long as ``pack`` counts an idle node as open.
IDLE_AFTER_S = 5.0

# A cancelled task is looked for soon after, once the worker had time to hear of it.
_SOON_S = 0.2

# A question may overtake the task itself, and "not running" would then mean "not yet".
_HEARD_AFTER_S = 0.1

# Waiting tasks that one audit compares with Dask; all of them would be 100,000 a second.
_SAMPLE = 1000


class Watch:
    """The plugin's periodic duties."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._asking: asyncio.Task[None] | None = None
        self._idle: list[str] = []
        self._soon: asyncio.TimerHandle | None = None
        self._callback = PeriodicCallback(self.look, 1000 * EVERY_S)
        self._callback.start()

    def stop(self) -> None:
        """Look no more."""
        self._callback.stop()
        if self._soon is not None:
            self._soon.cancel()

    def look(self) -> None:
        """Do everything once; a fault in it ends the runs loudly."""
        try:
            self._look()
        except Exception as error:
            self._host.break_off(error)

    def look_soon(self) -> None:
        """Ask for the end of a task that was cancelled a moment ago."""
        if self._soon is None:
            self._soon = asyncio.get_running_loop().call_later(_SOON_S, self._look_for_abandoned)

    def _look(self) -> None:
        host, now_s = self._host, time.monotonic()
        if not host.is_registered:
            host.leave()
            return
        if host.is_broken or self._supplies_changed():
            # What waited has failed, as an event was missed; or a worker changed what it supplies,
            # which is no event.  Begin again with what is there.
            host.rebuild()
        scheduler, dispatcher = host.scheduler, host.dispatcher
        by_node: defaultdict[str, list[WorkerState]] = defaultdict(list)
        for address, worker in scheduler.workers.items():
            dispatcher.worker_running(address, worker in scheduler.running)
            by_node[node_of(worker)].append(worker)
        for node, workers in by_node.items():
            dispatcher.node_measured(node, memory_share(workers), cpu_share(workers), now_s)
        for notice in dispatcher.tick(now_s):
            host.publish(notice)
        drift = list(chain(self._own_violations(), self._contradictions()))
        if drift:
            host.publish(
                Notice(
                    "drift",
                    f"{'; '.join(drift)}; all counts are taken anew from what Dask says; this is "
                    "a defect of sage_dask, please report it",
                )
            )
            host.rebuild()
        self._look_for_abandoned()
        self._tell_idle(now_s)
        host.kick()

    def _tell_idle(self, now_s: float) -> None:
        """Say which nodes could be switched off, when that has changed."""
        idle = sorted(
            node.name
            for node in self._host.dispatcher.nodes
            if node.idle_since_s is not None and now_s - node.idle_since_s >= IDLE_AFTER_S
        )
        if idle != self._idle:
            self._idle = idle
            self._host.scheduler.log_event(IDLE_TOPIC, idle)

    def _supplies_changed(self) -> bool:
        """Return whether a worker has other resources than it came with."""
        known = self._host.dispatcher.nodes.workers
        return any(
            {**worker.resources, THREADS: known[address].capacity[THREADS]}
            != known[address].capacity
            for address, worker in self._host.scheduler.workers.items()
            if address in known
        )

    def _own_violations(self) -> Iterator[str]:
        """Yield where what is counted as held differs from what leases hold."""
        dispatcher = self._host.dispatcher
        yield from worker_violations(dispatcher.nodes, dispatcher.ledger)
        yield from gate_violations(dispatcher.gates, dispatcher.ledger)

    def _contradictions(self) -> Iterator[str]:
        """Yield where Dask sees a task in another place than we do."""
        host = self._host
        tasks, dispatcher = host.scheduler.tasks, host.dispatcher
        for key, lease in dispatcher.ledger.running.items():
            state = tasks.get(key)
            worker = state.processing_on if state is not None else None
            if worker is None or worker.address != lease.worker:
                where = worker.address if worker is not None else "no worker"
                yield f"task {key!r} holds what it needs on {lease.worker}, Dask has it on {where}"
        for entry in islice(dispatcher.queue.entries(), _SAMPLE):
            state = tasks.get(entry.task.key)
            if state is None or state.state != "no-worker":
                seen = state.state if state is not None else "forgotten"
                yield f"task {entry.task.key!r} waits here, and is {seen!r} for Dask"
        for state in islice(filter(is_ours, host.scheduler.unrunnable), _SAMPLE):
            if state.key not in dispatcher.queue:
                yield f"task {state.key!r} is held by Dask, and does not wait here"

    def _look_for_abandoned(self) -> None:
        self._soon = None
        is_asking = self._asking is not None and not self._asking.done()
        if self._host.dispatcher.ledger.abandoned and not is_asking:
            self._asking = asyncio.ensure_future(self._ask_for_abandoned())

    async def _ask_for_abandoned(self) -> None:
        """Ask workers which of the tasks that were cancelled under them still run."""
        host = self._host
        try:
            by_worker = self._abandoned_by_worker(time.monotonic())
            answers = await host.scheduler.broadcast(
                msg={"op": "run", "function": pickle.dumps(_executing)},
                workers=list(by_worker),
                on_error="ignore",
            )
            for worker, keys in by_worker.items():
                answer = answers.get(worker)
                if not isinstance(answer, Mapping) or answer.get("status") != "OK":
                    # Gone, or too busy: its leases stay until it answers or leaves.
                    continue
                executing = _unpacked(answer["result"])
                for key in keys:
                    if key not in executing:
                        host.dispatcher.abandoned_ended(key, worker, time.monotonic())
            host.kick()
        except Exception:
            logger.exception("could not ask workers for cancelled tasks; asking again")

    def _abandoned_by_worker(self, now_s: float) -> Mapping[str, list[Any]]:
        """Return the keys to ask for; a worker may not have heard of the latest ones yet."""
        by_worker: defaultdict[str, list[Any]] = defaultdict(list)
        for (key, worker), lease in self._host.dispatcher.ledger.abandoned.items():
            if lease.abandoned_s is None or now_s - lease.abandoned_s < _HEARD_AFTER_S:
                self.look_soon()
            else:
                by_worker[worker].append(key)
        return by_worker


def _executing(dask_worker: Worker) -> set[Any]:
    """Return the keys that a worker is at, cancelled ones too; it runs there."""
    state = dask_worker.state
    return {task.key for task in state.executing | state.long_running}


def _unpacked(result: Serialize | Serialized) -> Any:
    """Return what a worker answered; within one process nothing was serialized."""
    if isinstance(result, Serialized):
        return deserialize(result.header, result.frames)
    return result.data


def memory_share(workers: list[WorkerState]) -> float | None:
    """Return the share of memory in use of the worker of a node that is shortest of it."""
    shares = [
        worker.metrics["memory"] / worker.memory_limit
        for worker in workers
        if worker.memory_limit and "memory" in worker.metrics
    ]
    return max(shares, default=None)


def cpu_share(workers: list[WorkerState]) -> float | None:
    """Return the share of a node's processor in use.

    By anyone, where workers measure the host (``distributed.admin.system-monitor.host-cpu``); else
    by the workers themselves, of their threads.
    """
    for worker in workers:
        times: Mapping[str, float] = worker.metrics.get("host_cpu", {})
        total = sum(times.values())
        if total > 0:
            return 1 - (times.get("idle", 0.0) + times.get("iowait", 0.0)) / total
    percent = [worker.metrics["cpu"] for worker in workers if "cpu" in worker.metrics]
    threads = sum(worker.nthreads for worker in workers)
    return min(1.0, sum(percent) / 100 / threads) if percent and threads else None
