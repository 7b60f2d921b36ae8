"""The dispatcher on a real Dask scheduler.

Every task annotated ``sage`` is held before Dask can place it, and let go to the
one worker that the dispatcher chose, when it chose.  No method of the scheduler is
replaced; other tasks never meet this plugin.  Whatever Dask tells becomes an
event for the dispatcher in the same call; decisions follow once per turn of the
event loop, for all events in it together.
"""

from __future__ import annotations

import asyncio
import logging
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import wraps
from typing import Any, TypeVar, cast

from distributed.diagnostics.plugin import SchedulerPlugin
from distributed.protocol import pickle
from distributed.scheduler import Scheduler, TaskState, WorkerState

from sage_dask.errors import RunError, SageError
from sage_dask.schedule import SAGE
from sage_dask.scheduling.dispatcher import Dispatcher
from sage_dask.scheduling.held import Held, held, hold, is_ours, node_of, pin, set_free
from sage_dask.scheduling.ledger import Lease
from sage_dask.scheduling.nodes import WorkerInfo
from sage_dask.scheduling.remote import HANDLER, Remote, predecessor_of
from sage_dask.scheduling.settings import Settings
from sage_dask.scheduling.statistics import Notice, Start
from sage_dask.scheduling.versions import version_notice
from sage_dask.scheduling.watch import Watch

logger = logging.getLogger(__name__)

# Events of this topic are notices for people.
TOPIC = "sage-dask"

# How a worker calls its news that a run is over.  Where Dask does not say how it went, as before
# a retry, this tells apart what a client cancelled, which runs on.
_ENDS = ("task-finished-", "task-erred-", "reschedule-", "execute-unknown-error-")

_Hook = TypeVar("_Hook", bound=Callable[..., None])


def _loud(hook: _Hook) -> _Hook:
    """Have a hook that breaks end the runs: Dask would log a line, and they would wait for ever."""

    @wraps(hook)
    def guarded(self: DispatchPlugin, *args: Any, **kwargs: Any) -> None:
        try:
            hook(self, *args, **kwargs)
        except Exception as error:
            self.break_off(error)

    return cast(_Hook, guarded)


class DispatchPlugin(SchedulerPlugin):
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
        self._loop = asyncio.get_running_loop()
        self._wake: asyncio.TimerHandle | None = None
        self._is_stopped = False
        predecessor = predecessor_of(scheduler)
        if predecessor is not None:
            predecessor.stop()
        self._rebuild(predecessor.dispatcher if predecessor is not None else None)
        self.watch = Watch(self)
        self._answer = scheduler.handlers[HANDLER] = Remote(self).answer
        notice = version_notice()
        if notice is not None:
            self.publish(notice)

    def stop(self) -> None:
        """Decide nothing any more; tasks that are held stay so."""
        self.watch.stop()
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
        waiting = self._keys_waiting()
        for state in self.scheduler.tasks.values():
            if is_ours(state):
                set_free(self.scheduler, state)
        # By way of "released" they go through Dask's own queue, and are not placed all at once.
        self.scheduler.transitions(dict.fromkeys(waiting, "released"), _stimulus("detach"))

    @property
    def is_registered(self) -> bool:
        """Whether Dask tells this plugin what happens; unregistering one calls nothing."""
        return self.scheduler.plugins.get(self.name) is self

    @property
    def is_broken(self) -> bool:
        """Whether nothing is decided any more, because an event was not understood."""
        return self._broken is not None

    def rebuild(self) -> None:
        """Forget every count, and take all of them anew from what Dask says."""
        self._rebuild(self.dispatcher)

    def _rebuild(self, before: Dispatcher | None) -> None:
        self._is_kicked = False
        self._broken: SageError | None = None
        self._tasks: dict[Any, Held] = {}
        self._jobs: Counter[str] = Counter()
        self.dispatcher: Dispatcher = self.settings.make_dispatcher(time.perf_counter)
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

    @_loud
    def update_graph(
        self,
        scheduler: Scheduler,
        *,
        annotations: Mapping[str, Mapping[Any, Any]],
        **kwargs: Any,
    ) -> None:
        """Hold new tasks of ours; Dask has not moved them yet."""
        # One time for all: the order within a graph is Dask's.
        now_s = time.monotonic()
        for key in annotations.get(SAGE, ()):
            state = scheduler.tasks[key]
            if key not in self._tasks and is_ours(state):
                self._adopt(state, now_s)
        self._raise_inputs(annotations.get(SAGE, ()))

    @_loud
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
        elif start == "no-worker" and finish != "processing":
            self.dispatcher.task_withdrawn(key, now_s)
        if finish == "no-worker":
            self.dispatcher.task_ready(task.view(self.scheduler, now_s), now_s)
            self.kick()
        elif finish == "processing" and key not in self.dispatcher.ledger.running:
            # Dask had placed it before we came.
            self._note_running(task, now_s)
        elif finish == "forgotten":
            self._forget(task)

    @_loud
    def add_worker(self, scheduler: Scheduler, worker: str) -> None:
        """Note a worker; nothing can be placed on it before Dask is done with this."""
        self._add_worker(worker)
        self._look_up_workers()
        self.kick()

    @_loud
    def remove_worker(self, scheduler: Scheduler, worker: str, **kwargs: Any) -> None:
        """Note that a worker is gone; its tasks gave back what they held in their transitions."""
        self.dispatcher.worker_left(worker, time.monotonic())
        self.kick()

    @_loud
    def restart(self, scheduler: Scheduler) -> None:
        """Begin anew: all tasks are gone, and the workers will be."""
        self.rebuild()

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

    def kick(self) -> None:
        """Decide before the event loop turns again."""
        if not self._is_kicked:
            self._is_kicked = True
            self._loop.call_soon(self._dispatch)

    def publish(self, notice: Notice) -> None:
        """Tell people, in the scheduler's log and wherever somebody listens."""
        logger.warning("%s: %s", notice.kind, notice.text)
        self.scheduler.log_event(TOPIC, {"kind": notice.kind, "text": notice.text})

    def break_off(self, error: Exception) -> None:
        """Fail what waits, now and from now on, since nothing will be decided any more."""
        if self._broken is not None:
            # The watch will try again; at once it might be without end.
            return
        where = "".join(traceback.format_exception(error))
        self._broken = RunError(
            f"the dispatcher broke ({type(error).__name__}: {error}); this is a defect of "
            f"sage_dask, please report it\n\n{where}"
        )
        logger.critical("%s", self._broken)
        self.kick()

    @_loud
    def _dispatch(self) -> None:
        self._is_kicked = False
        if self._is_stopped or not self.is_registered:
            return
        if self._broken is None:
            now_s = time.monotonic()
            self._start(self.dispatcher.dispatch(now_s), now_s)
            self._set_wake(now_s)
        failure = self._broken or self.dispatcher.failure
        if failure is not None:
            self._fail_waiting(failure)

    def _start(self, starts: Sequence[Start], now_s: float) -> None:
        """Carry out decisions; one that has become impossible is taken back."""
        for start in starts:
            pin(self._tasks[start.key].state, start.worker)
        # Dask takes recommendations from the end.
        recommended = {start.key: "processing" for start in reversed(starts)}
        self.scheduler.transitions(recommended, _stimulus("dispatch"))
        for start in starts:
            task = self._tasks.get(start.key)
            if task is not None and task.state.state == "no-worker":
                self._take_back(task, start.worker, now_s)

    def _take_back(self, task: Held, worker: str, now_s: float) -> None:
        """Hold a task again that its worker could not be given: paused, leaving, or with less now.

        The worker gets nothing until the watch has looked at it, or this might go on without end.
        """
        hold(task.state)
        self.dispatcher.worker_running(worker, False)
        self.dispatcher.task_ended(task.state.key, now_s, how="not started: its worker takes none")
        self.dispatcher.task_ready(task.view(self.scheduler, now_s), now_s)
        self.kick()

    def _set_wake(self, now_s: float) -> None:
        """Decide again when the dispatcher wants to, if nothing happens before."""
        if self._wake is not None:
            self._wake.cancel()
        wake_s = self.dispatcher.next_wake_s
        # The dispatcher compares times, so do not come a hair early.
        self._wake = (
            None
            if wake_s is None
            else self._loop.call_later(max(0.0, wake_s - now_s) + 0.001, self.kick)
        )

    def _fail_waiting(self, error: SageError) -> None:
        """Fail tasks that nobody is going to place, so that those who wait for them know."""
        stimulus_id, exception = _stimulus("fail"), pickle.dumps(error)
        recommended: dict[Any, str] = {}
        for key in self._keys_waiting():
            recommended.update(
                self.scheduler.transition(
                    key,
                    "erred",
                    exception=exception,
                    exception_text=str(error),
                    cause=key,
                    stimulus_id=stimulus_id,
                )
            )
        self.scheduler.transitions(recommended, stimulus_id)

    def _keys_waiting(self) -> list[Any]:
        """Return the keys of all tasks that are held, also where we lost sight of them."""
        return [state.key for state in self.scheduler.unrunnable if is_ours(state)]

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
                self.dispatcher.task_withdrawn(entry.task.key, now_s)
                task = self._tasks[entry.task.key]
                self.dispatcher.task_ready(task.view(self.scheduler, now_s), now_s)

    # One task

    def _adopt(self, state: TaskState, now_s: float) -> None:
        """Take charge of a task in whatever state it is."""
        task = self._tasks[state.key] = held(state, now_s)
        if task.job not in self._jobs:
            said = state.annotations[SAGE]
            self.dispatcher.job_arrived(task.job, said.get("weight", 1.0), said.get("quota"))
        self._jobs[task.job] += 1
        # Also where it runs already: Dask does not steal a task that it thinks is restricted.
        hold(state)
        if state.state == "processing":
            self._note_running(task, now_s)
        elif state.state == "no-worker":
            self.dispatcher.task_ready(task.view(self.scheduler, now_s), now_s)

    def _adopt_abandoned(self, leases: Iterable[Lease]) -> None:
        """Take charge of cancelled tasks that run on; Dask has forgotten them."""
        now_s = time.monotonic()
        for lease in leases:
            if lease.worker in self.dispatcher.nodes.workers:
                self.dispatcher.task_running(lease.task, lease.worker, now_s)
                self.dispatcher.task_abandoned(lease.task.key, now_s)

    @_loud
    def _unqueue(self) -> None:
        """Take tasks of ours out of Dask's queue: it heeds restrictions before that, not after."""
        queued = {state.key: "released" for state in self.scheduler.queued if is_ours(state)}
        self.scheduler.transitions(queued, _stimulus("adopt"))

    def _note_running(self, task: Held, now_s: float) -> None:
        worker = task.state.processing_on
        self.dispatcher.task_running(task.view(self.scheduler, now_s), worker.address, now_s)

    def _end(
        self,
        task: Held,
        finish: str,
        stimulus_id: str,
        startstops: Sequence[Mapping[str, Any]] | None,
        now_s: float,
    ) -> None:
        """Give back what a task held, in the transition that ends it."""
        key = task.state.key
        lease = self.dispatcher.ledger.running.get(key)
        # Whatever happens to it next comes back to us.
        hold(task.state)
        if lease is None:
            return
        if lease.worker not in self.scheduler.workers:
            self.dispatcher.task_ended(key, now_s, how="lost with its worker")
        elif finish == "memory":
            self.dispatcher.task_ended(key, now_s, seconds=_computed_s(startstops))
        elif finish == "erred":
            self.dispatcher.task_ended(key, now_s, how="failed")
        elif stimulus_id.startswith(_ENDS):
            self.dispatcher.task_ended(key, now_s, how="ended, to be run again")
        else:
            # Dask can not stop a thread, and does not tell when it ends.
            self.dispatcher.task_abandoned(key, now_s)
            self.watch.look_soon()
        self.kick()

    def _forget(self, task: Held) -> None:
        del self._tasks[task.state.key]
        self._jobs[task.job] -= 1
        if not self._jobs[task.job]:
            del self._jobs[task.job]
            self.dispatcher.job_left(task.job)

    def _raise_inputs(self, keys: Iterable[Any]) -> None:
        """Give what an urgent task waits for the task's own priority."""
        pending = [task for key in keys if (task := self._tasks.get(key))]
        while pending:
            task = pending.pop()
            for state in task.state.dependencies:
                needed = self._tasks.get(state.key)
                if needed is not None and needed.priority < task.priority:
                    needed.priority = task.priority
                    self.dispatcher.task_raised(state.key, task.priority)
                    pending.append(needed)


def _computed_s(startstops: Sequence[Mapping[str, Any]] | None) -> float | None:
    """Return the seconds that a worker says it computed; None where it does not say."""
    return next(
        (each["stop"] - each["start"] for each in startstops or () if each["action"] == "compute"),
        None,
    )


def _stimulus(what: str) -> str:
    return f"sage-{what}-{time.time()}"
