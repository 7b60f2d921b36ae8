"""The dispatcher on a real Dask scheduler.

Every task annotated ``sage`` is held before Dask can place it, and let go to the
one worker that the dispatcher chose, when it chose.  No method of the scheduler is
replaced; other tasks never meet this plugin.  Whatever Dask tells becomes an
event for the dispatcher in the same call; decisions follow once per turn of the
event loop, for all events in it together.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any

from distributed.diagnostics.plugin import SchedulerPlugin
from distributed.scheduler import Scheduler, WorkerState

from sage_dask.schedule import SAGE
from sage_dask.scheduling.dispatcher import Dispatcher
from sage_dask.scheduling.nodes import WorkerInfo
from sage_dask.scheduling.on_dask.held import is_ours, node_of, set_free
from sage_dask.scheduling.on_dask.placing import Placing, loud, stimulus
from sage_dask.scheduling.on_dask.remote import Remote, predecessor_of
from sage_dask.scheduling.on_dask.settings import Settings
from sage_dask.scheduling.on_dask.traffic import Traffic
from sage_dask.scheduling.on_dask.versions import version_notice
from sage_dask.scheduling.on_dask.watch import Watch
from sage_dask.scheduling.on_dask.wire import HANDLER, REPORTS


class DispatchPlugin(Placing, SchedulerPlugin):
    """Places all tasks annotated ``sage`` on a scheduler.

    Registered again, it stays as it is (Dask's ``idempotent``); registered again after it was
    removed, it adopts the tasks it finds.

    Args:
        settings: What it begins with; ``remote`` changes it later.
    """

    name = "sage-dask-dispatcher"
    idempotent = True

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or Settings()

    async def start(self, scheduler: Scheduler) -> None:
        """Take over whatever is there: workers, waiting tasks, running ones."""
        self.scheduler = scheduler
        self._prepare(asyncio.get_running_loop())
        predecessor = predecessor_of(scheduler)
        if predecessor is not None:
            predecessor.stop()
        self._rebuild(predecessor.dispatcher if predecessor is not None else None)
        self.watch = Watch(self)
        self.traffic = Traffic(self)
        self._answer = scheduler.handlers[HANDLER] = Remote(self).answer
        notice = version_notice()
        if notice is not None:
            self.publish(notice)

    def stop(self) -> None:
        """Decide nothing any more; tasks that are held stay so."""
        self.watch.stop()
        self.traffic.stop()
        if self._wake is not None:
            self._wake.cancel()
        self._is_stopped = True

    async def close(self) -> None:
        """Stop with the scheduler."""
        self.stop()

    async def detach(self) -> None:
        """Leave stock Dask behind: every task is placed as if this plugin had never been."""
        if self.is_registered:
            self.scheduler.remove_plugin(self.name)
        self.leave()

    def leave(self) -> None:
        """Stop for good; unless another plugin took over, Dask places what waits."""
        self.stop()
        if self.scheduler.handlers.get(HANDLER) != self._answer:
            return
        del self.scheduler.handlers[HANDLER]
        self.traffic.release()
        waiting = self._keys_waiting()
        for state in self.scheduler.tasks.values():
            if is_ours(state):
                set_free(self.scheduler, state)
        # By way of "released" they go through Dask's own queue, and are not placed all at once.
        self.scheduler.transitions(dict.fromkeys(waiting, "released"), stimulus("detach"))

    def rebuild(self) -> None:
        """Forget every count, and take all of them anew from what Dask says."""
        self._rebuild(self.dispatcher)

    def _rebuild(self, before: Dispatcher | None) -> None:
        self._begin_anew()
        # What was found out about servers outlives any count.
        servers = before.servers if before is not None else None
        if servers is not None:
            servers.keep_workers(self.scheduler.workers)
        self.dispatcher = self.settings.make_dispatcher(time.perf_counter, servers)
        for address in self.scheduler.workers:
            self._add_worker(address)
        if before is not None:
            self._adopt_abandoned(before.ledger.abandoned.values())
        now_s = time.monotonic()
        for state in list(self.scheduler.tasks.values()):
            if is_ours(state):
                self._adopt(state, now_s)
        # Not at once: while a plugin starts, Dask does not tell it of transitions yet.
        self._loop.call_soon(self._unqueue)
        self.kick()

    # What Dask tells

    @loud
    def update_graph(
        self,
        scheduler: Scheduler,
        *,
        annotations: Mapping[str, Mapping[Any, Any]],
        **kwargs: Any,
    ) -> None:
        """Hold new tasks of ours; Dask has not moved them yet."""
        # One time for all: the order within a graph is Dask's.
        now_s, num_met = time.monotonic(), self.num_jobs_met
        for key in annotations.get(SAGE, ()):
            state = scheduler.tasks[key]
            if key not in self._tasks and is_ours(state):
                self._adopt(state, now_s)
        if self.num_jobs_met > num_met:
            self.traffic.tell_again()
        self._raise_inputs(annotations.get(SAGE, ()))

    @loud
    def transition(
        self,
        key: Any,
        start: str,
        finish: str,
        *args: Any,
        stimulus_id: str,
        startstops: Sequence[Mapping[str, Any]] | None = None,
        **kwargs: Any,
    ) -> None:
        """Follow a task of ours; Dask has not acted on this transition's consequences yet."""
        task = self._tasks.get(key)
        if task is None:
            return
        now_s = time.monotonic()
        if start == "processing":
            self._end(task, finish, stimulus_id, startstops, now_s)
            self.kick()
        elif start == "no-worker" and finish != "processing":
            # It may come back, such as when an input was lost.
            task.waited(self.dispatcher.task_withdrawn(key, now_s))
        if finish == "no-worker":
            self.dispatcher.task_ready(task.view(self.scheduler, now_s), now_s)
            self.kick()
        elif finish == "processing" and key not in self.dispatcher.ledger.running:
            # Dask had placed it before we came.
            self._note_running(task, now_s)
        elif finish == "forgotten":
            self._forget(task)

    @loud
    def add_worker(self, scheduler: Scheduler, worker: str) -> None:
        """Note a worker; nothing can be placed on it before Dask is done with this."""
        self._add_worker(worker)
        self._look_up_workers()
        self.kick()

    @loud
    def remove_worker(self, scheduler: Scheduler, worker: str, **kwargs: Any) -> None:
        """Note that a worker is gone; its tasks gave back what they held in their transitions."""
        self.dispatcher.worker_left(worker, time.monotonic())
        self.traffic.forget(worker)
        self.kick()

    @loud
    def restart(self, scheduler: Scheduler) -> None:
        """Begin anew: all tasks are gone, and the workers will be."""
        self.rebuild()

    @loud
    def log_event(self, topic: str, msg: Any) -> None:
        """Take workers' reports on their requests; other events are not ours."""
        if topic == REPORTS:
            self.traffic.report(msg["worker"], msg["report"])

    def valid_workers_downscaling(
        self, scheduler: Scheduler, workers: list[WorkerState]
    ) -> list[WorkerState]:
        """Return those of the workers whose nodes have nothing to do."""
        nodes = self.dispatcher.nodes
        return [
            worker
            for worker in workers
            if (node := node_of(worker)) not in nodes or not nodes[node].in_flight
        ]

    # What we do

    # Workers

    def _add_worker(self, address: str) -> None:
        now_s, state = time.monotonic(), self.scheduler.workers[address]
        info = WorkerInfo(address, node_of(state), state.nthreads, dict(state.resources))
        self.dispatcher.worker_joined(info, now_s)
        self.dispatcher.worker_running(address, state in self.scheduler.running)

    def _look_up_workers(self) -> None:
        """Ask anew who may take tasks for named workers: one has come, and may bear the name."""
        lines = self.dispatcher.queue.lines.values()
        if not any(line.size for line in lines if line.demand.fit.workers is not None):
            return
        now_s = time.monotonic()
        for entry in list(self.dispatcher.queue.entries()):
            if entry.task.demand.fit.workers is not None:
                task = self._tasks[entry.task.key]
                task.waited(self.dispatcher.task_withdrawn(entry.task.key, now_s))
                self.dispatcher.task_ready(task.view(self.scheduler, now_s), now_s)

    # One task

    @loud
    def _unqueue(self) -> None:
        """Take tasks of ours out of Dask's queue: it heeds restrictions before that, not after."""
        queued = {state.key: "released" for state in self.scheduler.queued if is_ours(state)}
        self.scheduler.transitions(queued, stimulus("adopt"))
