"""The simulated machines and model servers: what happens to a task once it was placed.

They know threads, seats and speeds, and nothing of policies.  Threads serve what
they are sent in the order in which it was sent, as Dask's workers do; a server
serves requests in the order in which they came.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from sage_dask.errors import PlanError
from sage_dask.scheduling.nodes import WorkerInfo
from sage_dask.scheduling.simulation.workload import Batch, Step, Stream
from sage_dask.scheduling.view import Key


@dataclass(frozen=True)
class SimulatedNode:
    """A machine; the same name may come back after it left."""

    name: str
    threads: int = 8
    """Of all its workers together."""
    workers: int = 1
    resources: Mapping[str, float] = field(default_factory=dict)
    """Of all its workers together."""
    slowdown: float = 1.0
    """How many times longer it computes than a node of speed one."""
    joins_s: float = 0.0
    leaves_s: float | None = None
    """When it is lost with all that runs there; None for never."""

    def __post_init__(self) -> None:
        if self.threads % self.workers:
            raise PlanError(
                f"node {self.name!r}: {self.threads} threads can not be shared equally by "
                f"{self.workers} workers; give a multiple of {self.workers}"
            )

    def infos(self) -> list[WorkerInfo]:
        """Return its workers, as the dispatcher is told of them."""
        shares = {name: amount / self.workers for name, amount in self.resources.items()}
        return [
            WorkerInfo(f"{self.name}/{index}", self.name, self.threads // self.workers, shares)
            for index in range(self.workers)
        ]


def equal_nodes(
    num_nodes: int, threads: int = 8, slow: Mapping[int, float] | None = None
) -> list[SimulatedNode]:
    """Return nodes that differ in nothing but their names and, by position, their slowdown."""
    digits = len(str(num_nodes - 1))
    return [
        SimulatedNode(f"node-{index:0{digits}}", threads, slowdown=(slow or {}).get(index, 1.0))
        for index in range(num_nodes)
    ]


class Flow:
    """One batch on its way through its steps."""

    __slots__ = ("arrived_s", "batch", "index", "inputs", "number", "ready_s", "stream", "waited_s")

    def __init__(self, stream: Stream, batch: Batch, number: int, now_s: float) -> None:
        self.stream = stream
        self.batch = batch
        self.number = number
        self.index = 0
        """Of the step that is ready, waits or runs."""
        self.arrived_s = self.ready_s = now_s
        self.inputs: Mapping[str, int] = {}
        """Bytes of the last step's output, by the node where they lie."""
        self.waited_s = 0.0
        """What its steps waited between ready and started, added up."""

    @property
    def step(self) -> Step:
        """The step that is ready, waits or runs."""
        return self.batch.steps[self.index]


class Attempt:
    """One placement of one task."""

    __slots__ = ("ended_s", "flow", "is_lost", "key", "reaches_s", "started_s", "step", "worker")

    def __init__(self, key: Key, flow: Flow, worker: SimulatedWorker, reaches_s: float) -> None:
        self.key = key
        self.flow = flow
        self.step = flow.step
        self.worker = worker
        self.reaches_s = reaches_s
        self.started_s = math.inf
        self.ended_s = math.inf
        self.is_lost = False


class SimulatedWorker:
    """One worker process: its threads, and what waits for one."""

    __slots__ = ("address", "attempts", "free_threads", "node", "waiting")

    def __init__(self, info: WorkerInfo, node: SimulatedNode) -> None:
        self.address = info.address
        self.node = node
        self.free_threads = info.threads
        self.attempts: dict[Key, Attempt] = {}
        """All that were sent and are not known to have ended."""
        self.waiting: deque[Attempt] = deque()

    def send(self, attempt: Attempt) -> Attempt | None:
        """Take a task; return it if a thread is kept for it from now on."""
        self.attempts[attempt.key] = attempt
        if self.free_threads:
            self.free_threads -= 1
            return attempt
        self.waiting.append(attempt)
        return None

    def free_thread(self) -> Attempt | None:
        """Let a thread go; return the task that has it from now on."""
        if self.waiting:
            return self.waiting.popleft()
        self.free_threads += 1
        return None

    def lose(self, key: Key, now_s: float) -> Attempt:
        """Return a task that is lost with this worker, whatever it was at."""
        attempt = self.attempts.pop(key)
        attempt.is_lost = True
        attempt.ended_s = min(attempt.ended_s, now_s)
        return attempt


class ModelServer:
    """So many seats, and requests that wait for one."""

    def __init__(self, seats: int) -> None:
        self.seats = seats
        self.num_served = 0
        self.busy_s = 0.0
        self.peak_seated = 0
        self.peak_waiting = 0
        self._seated = 0
        self._waiting: deque[Attempt] = deque()

    def request(self, attempt: Attempt) -> Attempt | None:
        """Take a request; return it if it has a seat at once."""
        if self._seated < self.seats:
            self._seat(attempt)
            return attempt
        self._waiting.append(attempt)
        self.peak_waiting = max(self.peak_waiting, len(self._waiting))
        return None

    def answer(self) -> Attempt | None:
        """Free a seat; return the request that has it from now on.

        Whoever was lost while it waited has hung up; a request that was being served when its
        caller was lost keeps its seat until it is answered.
        """
        self._seated -= 1
        while self._waiting:
            attempt = self._waiting.popleft()
            if not attempt.is_lost:
                self._seat(attempt)
                return attempt
        return None

    def _seat(self, attempt: Attempt) -> None:
        self._seated += 1
        self.num_served += 1
        self.busy_s += attempt.step.request_s
        self.peak_seated = max(self.peak_seated, self._seated)
