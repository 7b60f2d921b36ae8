"""Two nodes, a gate of four slots, and jobs that never let it run dry: who waits how long?"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any

from sage_dask.scheduling.dispatcher import Dispatcher
from sage_dask.scheduling.nodes import WorkerInfo
from sage_dask.scheduling.policy import Policy
from sage_dask.scheduling.view import Demand, Key, TaskView, demand

SLOTS = 4
PATIENCE_S = 5.0
LONGEST_S = 1.5

SMALL = demand(gates={"chat": 1})


def big(slots: int = SLOTS) -> Demand:
    """Return the demand of a task that needs many slots at once."""
    return demand(gates={"chat": slots})


class ClosedLoop:
    """A dispatcher whose small tasks take 1.0 to 1.5 s, unevenly, so that slots come back singly.

    Args:
        policy: Who decides.
        make: Makes the dispatcher.
        threads: Of each node.
    """

    def __init__(
        self, policy: Policy, make: Callable[..., Dispatcher] = Dispatcher, *, threads: int = 8
    ) -> None:
        self.core = make(policy, patience_s=PATIENCE_S)
        for index in range(2):
            info = WorkerInfo(f"tcp://worker:{index}", f"node-{index}", threads)
            self.core.worker_joined(info, 0.0)
        self.core.set_gate("chat", SLOTS)
        self.now_s = 0.0
        self.started: dict[Key, float] = {}
        self._due: list[tuple[float, int]] = []
        self._takes_s: dict[Key, float] = {}
        self._num_tasks = 0

    def put(
        self,
        job: str,
        what: Demand = SMALL,
        *,
        takes_s: float | None = None,
        **about: Any,
    ) -> int:
        """Queue a task and return its key."""
        self._num_tasks += 1
        key = self._num_tasks
        self._takes_s[key] = takes_s if takes_s is not None else 1.0 + 0.1 * (key % 6)
        view = TaskView(key, job, "ask", what, arrived_s=self.now_s, ready_s=self.now_s, **about)
        self.core.task_ready(view, self.now_s)
        return key

    def fill(self, jobs: Callable[[int], str], **about: Any) -> None:
        """Have eight small tasks waiting, of the job that is given for each task's number."""
        num_waiting = sum(1 for entry in self.core.queue.entries() if entry.task.demand == SMALL)
        for _ in range(8 - num_waiting):
            self.put(jobs(self._num_tasks), **about)

    def dispatch(self) -> None:
        """Start what can start."""
        for start in self.core.dispatch(self.now_s):
            assert isinstance(start.key, int)
            self.started[start.key] = self.now_s
            heapq.heappush(self._due, (self.now_s + self._takes_s[start.key], start.key))

    def step(self) -> None:
        """Go to the next end of a task, or to when the dispatcher wants to be asked again."""
        wake_s = self.core.next_wake_s
        if wake_s is not None and (not self._due or wake_s < self._due[0][0]):
            self.now_s = wake_s
        else:
            self.now_s, key = heapq.heappop(self._due)
            self.core.task_ended(key, self.now_s, seconds=self._takes_s[key])

    def run(self, jobs: Callable[[int], str], seconds: float, **about: Any) -> None:
        """Go on for so long, with small tasks waiting all the time."""
        until_s = self.now_s + seconds
        while self.now_s < until_s:
            self.fill(jobs, **about)
            self.dispatch()
            self.step()
        self.dispatch()


def wait_of_big_s(
    policy: Policy,
    make: Callable[..., Dispatcher] = Dispatcher,
    *,
    stream_priority: float = 0.0,
    patient_for_s: float = 300.0,
) -> float:
    """Return how long one that needs all slots waits while two jobs want them one by one."""
    loop = ClosedLoop(policy, make)
    stream = ("small/0", "small/1")
    loop.run(lambda number: stream[number % 2], 10.0, priority=stream_priority)
    key = loop.put("big/0", big())
    came_s = loop.now_s
    loop.run(lambda number: stream[number % 2], patient_for_s, priority=stream_priority)
    return loop.started.get(key, float("inf")) - came_s
