"""The tasks that the plugin has charge of: from the moment it meets one until Dask forgets it.

What Dask tells of a task becomes an event for the dispatcher, and whatever a task
held is given back in the transition that ends it.
"""

from __future__ import annotations

import logging
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from distributed.scheduler import Scheduler, TaskState

from sage_dask.endpoint.limit import RequestLimit
from sage_dask.errors import SageError
from sage_dask.schedule import SAGE
from sage_dask.scheduling.dispatcher import Dispatcher
from sage_dask.scheduling.ledger import Lease
from sage_dask.scheduling.on_dask.held import Held, held, hold, is_ours
from sage_dask.scheduling.on_dask.watch import Watch
from sage_dask.scheduling.statistics import Notice

# Below Dask's own logger: shown where a scheduler's log is, silent where Dask's is, as on local
# nodes, whose driver tells it already.
logger = logging.getLogger("distributed.sage_dask")

# Events of this topic are notices for people.
TOPIC = "sage-dask"

# How a worker calls its news that a run is over.  Where Dask does not say how it went, as before
# a retry, this tells apart what a client cancelled, which runs on.
_ENDS = ("task-finished-", "task-erred-", "reschedule-", "execute-unknown-error-")


class Keeping:
    """Takes charge of tasks, follows them, and lets them go."""

    scheduler: Scheduler
    dispatcher: Dispatcher
    watch: Watch

    def _begin_anew(self) -> None:
        """Have charge of no task at all."""
        self._tasks: dict[Any, Held] = {}
        self._jobs: Counter[str] = Counter()
        self.num_jobs_met = 0
        """Jobs that came, those that are gone included."""
        self._servers_of: defaultdict[str, set[str]] = defaultdict(set)
        """Model servers by job."""

    def publish(self, notice: Notice) -> None:
        """Tell people, in the scheduler's log and wherever somebody listens."""
        logger.warning("%s: %s", notice.kind, notice.text)
        self.scheduler.log_event(TOPIC, {"kind": notice.kind, "text": notice.text})

    def _adopt(self, state: TaskState, now_s: float) -> None:
        """Take charge of a task in whatever state it is."""
        task = self._tasks[state.key] = held(state, now_s)
        self._need_servers(task.job, state.annotations[SAGE].get("endpoints", {}))
        if task.job not in self._jobs:
            self._welcome(task.job, state.annotations[SAGE])
        self._jobs[task.job] += 1
        # Also where it runs already: Dask does not steal a task that it thinks is restricted.
        hold(state)
        if state.state == "processing":
            self._note_running(task, now_s)
        elif state.state == "no-worker":
            self.dispatcher.task_ready(task.view(self.scheduler, now_s), now_s)

    def _welcome(self, job: str, said: Mapping[str, Any]) -> None:
        """Note a job and what it asks for itself; nonsense is told, and costs it the asking."""
        self.num_jobs_met += 1
        try:
            self.dispatcher.job_arrived(job, said.get("weight", 1.0), said.get("quota"))
        except (SageError, TypeError, AttributeError) as error:
            self.publish(Notice("annotation", f"{error}; the job runs without"))

    def _need_servers(self, job: str, limits: Mapping[str, Sequence[Any]]) -> None:
        """Note the servers that a job sends requests to, once: the latest job to come decides."""
        for endpoint, limit in limits.items():
            if endpoint not in self._servers_of[job]:
                self._servers_of[job].add(endpoint)
                self.dispatcher.server_needed(endpoint, RequestLimit(*limit))

    def _adopt_abandoned(self, leases: Iterable[Lease]) -> None:
        """Take charge of cancelled tasks that run on; Dask has forgotten them."""
        now_s = time.monotonic()
        for lease in leases:
            if lease.worker in self.dispatcher.nodes.workers:
                self.dispatcher.task_running(lease.task, lease.worker, now_s)
                self.dispatcher.task_abandoned(lease.task.key, now_s)

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
        # Only a later try is told of it: then also a result that was there is lost.
        task.lost(now_s - lease.started_s)
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

    def _forget(self, task: Held) -> None:
        del self._tasks[task.state.key]
        self._jobs[task.job] -= 1
        if not self._jobs[task.job]:
            del self._jobs[task.job]
            self._servers_of.pop(task.job, None)
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

    def _keys_waiting(self) -> list[Any]:
        """Return the keys of all tasks that are held, also where we lost sight of them."""
        return [state.key for state in self.scheduler.unrunnable if is_ours(state)]


def _computed_s(startstops: Sequence[Mapping[str, Any]] | None) -> float | None:
    """Return the seconds that a worker says it computed; None where it does not say."""
    return next(
        (each["stop"] - each["start"] for each in startstops or () if each["action"] == "compute"),
        None,
    )
