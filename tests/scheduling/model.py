"""What is true of a cluster, as the state machine saw it happen.

Deliberately simple and slow: it keeps no counter.  What is free is what there is
less what tasks hold, added up anew whenever it is asked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from sage_dask.scheduling.nodes import WorkerInfo
from sage_dask.scheduling.view import THREADS, Demand, Key, TaskView

EPSILON = 1e-6


@dataclass
class TrueWorker:
    """One worker process, as it was started."""

    info: WorkerInfo
    is_running: bool = True

    @property
    def address(self) -> str:
        """Where it is."""
        return self.info.address

    @property
    def has(self) -> Mapping[str, float]:
        """What it has in all."""
        return {**self.info.resources, THREADS: float(self.info.threads)}

    def supplies(self, demand: Demand) -> bool:
        """Return whether a task could run here if all were free."""
        workers = demand.fit.workers
        return (workers is None or self.address in workers) and all(
            amount <= self.has.get(name, 0.0) + EPSILON for name, amount in demand.fit.amounts
        )


@dataclass
class Hold:
    """One run of a task on a worker, wanted or not."""

    task: TaskView
    worker: str
    ends_s: float
    left: int = 0
    """Requests without an answer, sent or not."""
    told: int = 0
    """Requests that the dispatcher believes to be left, by the last report that reached it."""


@dataclass
class TrueState:
    """Workers, limits and tasks."""

    now_s: float = 0.0
    workers: dict[str, TrueWorker] = field(default_factory=dict)
    gates: dict[str, float | None] = field(default_factory=dict)
    declared: dict[str, Mapping[str, float]] = field(default_factory=dict)
    quotas: dict[str, Mapping[str, float]] = field(default_factory=dict)
    paused: set[str] = field(default_factory=set)
    """Jobs that may start nothing."""
    waiting: dict[Key, TaskView] = field(default_factory=dict)
    waiting_since: dict[Key, float] = field(default_factory=dict)
    """When each task was last handed over."""
    running: dict[Key, Hold] = field(default_factory=dict)
    abandoned: dict[tuple[Key, str], Hold] = field(default_factory=dict)
    lost: dict[Key, TaskView] = field(default_factory=dict)
    """Ran on a worker that left, and are not ready again."""
    ended: set[Key] = field(default_factory=set)
    withdrawn: dict[Key, TaskView] = field(default_factory=dict)
    limits: dict[str, int] = field(default_factory=dict)
    """Requests that each server takes at once."""
    down: dict[str, frozenset[str]] = field(default_factory=dict)
    """By worker: servers that are down, as it last said."""
    nodes_idle_since: dict[str, float] = field(default_factory=dict)
    """When each node without tasks became so."""
    nodes_used: set[str] = field(default_factory=set)
    """Nodes that ever had a task since they joined."""

    # What is held

    def holds(self) -> Iterator[Hold]:
        """Yield every run under way."""
        yield from self.running.values()
        yield from self.abandoned.values()

    def held_of_worker(self, address: str, name: str) -> float:
        """Return how much of a resource its tasks hold."""
        return sum(
            dict(hold.task.demand.fit.amounts).get(name, 0.0)
            for hold in self.holds()
            if hold.worker == address
        )

    def held_of_gate(self, name: str) -> float:
        """Return how many slots of a gate are held."""
        return sum(dict(hold.task.demand.gates).get(name, 0.0) for hold in self.holds())

    def held_by_job(self, job: str, name: str) -> float:
        """Return how much of a resource or gate one job holds."""
        return sum(
            dict(hold.task.demand.amounts).get(name, 0.0)
            for hold in self.holds()
            if hold.task.job == job
        )

    def in_flight(self, node: str) -> int:
        """Return the number of runs on a node."""
        return sum(1 for hold in self.holds() if self.node_of(hold.worker) == node)

    def outstanding(self, demand: Demand, wanted: Mapping[str, float]) -> float:
        """Return the requests that are believed to be left for the servers of a task.

        Args:
            demand: What the task needs.
            wanted: By server: how many there should be, as which others' requests are divided.
        """
        total = 0.0
        for hold in self.holds():
            servers = hold.task.demand.endpoints
            common = [endpoint for endpoint in servers if endpoint in demand.endpoints]
            if common:
                in_all = sum(wanted[endpoint] for endpoint in servers)
                part = sum(wanted[endpoint] for endpoint in common)
                total += hold.told * (part / in_all if in_all else len(common) / len(servers))
        return total

    def left(self, worker: str) -> Counter[Key]:
        """Return the requests that are left of each task on a worker, wanted or not."""
        return Counter({h.task.key: h.left for h in self.holds() if h.worker == worker})

    def find(self, key: Key, worker: str) -> Hold | None:
        """Return a run of a task on a worker, wanted or not."""
        hold = self.running.get(key)
        return hold if hold and hold.worker == worker else self.abandoned.get((key, worker))

    # What has room

    def is_open(self, demand: Demand) -> bool:
        """Return whether a task needs no server, or one that takes requests."""
        return not demand.endpoints or any(
            self.limits[e] and not any(e in down for down in self.down.values())
            for e in demand.endpoints
        )

    def has_room(self, worker: TrueWorker, demand: Demand) -> bool:
        """Return whether a worker has everything free that a task needs of it."""
        return (
            worker.is_running
            and worker.supplies(demand)
            and all(
                self.held_of_worker(worker.address, name) + amount <= worker.has[name] + EPSILON
                for name, amount in demand.fit.amounts
                if amount
            )
        )

    def gates_have_room(self, demand: Demand) -> bool:
        """Return whether all gates of a task have its slots free."""
        return all(
            self.held_of_gate(name) + slots <= limit + EPSILON
            for name, slots in demand.gates
            if (limit := self.gates.get(name)) is not None
        )

    def quota_has_room(self, task: TaskView) -> bool:
        """Return whether the task's job may hold what it needs, and is not paused."""
        return task.job not in self.paused and not self.above_quota(task)

    def above_quota(self, task: TaskView) -> set[str]:
        """Return the names of which the task's job would hold too much with it."""
        quota = self.quota(task.job)
        return {
            name
            for name, amount in task.demand.amounts
            if name in quota and self.held_by_job(task.job, name) + amount > quota[name] + EPSILON
        }

    def workers_for(self, task: TaskView) -> list[TrueWorker]:
        """Return the workers on which a task could start now."""
        if not self.gates_have_room(task.demand) or not self.quota_has_room(task):
            return []
        return [w for w in self.workers.values() if self.has_room(w, task.demand)]

    def is_possible(self, demand: Demand) -> bool:
        """Return whether a task could start once everything has come back."""
        gates = all(
            slots <= limit + EPSILON
            for name, slots in demand.gates
            if (limit := self.gates.get(name)) is not None
        )
        servers = not demand.endpoints or any(self.limits[e] for e in demand.endpoints)
        able = (w for w in self.workers.values() if w.is_running and w.supplies(demand))
        return gates and servers and any(able)

    def is_worth_a_word(self, task: TaskView) -> bool:
        """Return whether a task waits for what will not come by itself."""
        quota = self.quota(task.job)
        is_above = any(amount > quota.get(name, amount) for name, amount in task.demand.amounts)
        return is_above or not self.is_possible(task.demand)

    def quota(self, job: str) -> Mapping[str, float]:
        """Return a job's quota: what was set for it, for its pipeline, or what it declared."""
        pipeline = job.partition("/")[0]
        declared = self.declared.get(job, {})
        return self.quotas.get(job, self.quotas.get(pipeline, declared))

    # Nodes

    def node_of(self, address: str) -> str:
        """Return the machine of a worker."""
        return self.workers[address].info.node

    def threads_of(self, node: str) -> int:
        """Return the threads of all workers of a node."""
        return sum(w.info.threads for w in self.workers.values() if w.info.node == node)

    def is_closed(self, node: str, stay_open_s: float) -> bool:
        """Return whether a node is idle, and has been for so long or since it joined."""
        if self.in_flight(node):
            return False
        idle_s = self.now_s - self.nodes_idle_since[node]
        return node not in self.nodes_used or idle_s >= stay_open_s

    # What happens

    def join(self, info: WorkerInfo) -> None:
        """Add a worker."""
        if not any(w.info.node == info.node for w in self.workers.values()):
            self.nodes_idle_since[info.node] = self.now_s
            self.nodes_used.discard(info.node)
        self.workers[info.address] = TrueWorker(info)

    def leave(self, address: str) -> list[Key]:
        """Remove a worker; its tasks are lost, and nobody is at the abandoned ones any more."""
        node = self.node_of(address)
        lost = [key for key, hold in self.running.items() if hold.worker == address]
        for key in lost:
            self.lost[key] = self.running.pop(key).task
        for key, worker in list(self.abandoned):
            if worker == address:
                del self.abandoned[key, worker]
        self._note_idle(node)
        del self.workers[address]
        self.down.pop(address, None)
        return lost

    def start(self, key: Key, worker: str, takes_s: float) -> None:
        """Move a waiting task to a worker, which may still be at it from before."""
        task = self.waiting.pop(key)
        self.abandoned.pop((key, worker), None)
        number = task.requests if task.demand.endpoints else 0
        self.running[key] = Hold(task, worker, self.now_s + takes_s, number, number)
        self.nodes_idle_since.pop(self.node_of(worker), None)
        self.nodes_used.add(self.node_of(worker))

    def end(self, key: Key) -> None:
        """Note that a running task is done."""
        hold = self.running.pop(key)
        self.ended.add(key)
        self._note_idle(self.node_of(hold.worker))

    def abandon(self, key: Key) -> None:
        """Note that nobody wants a running task any more."""
        hold = self.running.pop(key)
        self.withdrawn[key] = hold.task
        self.abandoned[key, hold.worker] = hold

    def end_abandoned(self, key: Key, worker: str) -> None:
        """Note that a worker is done with an abandoned task."""
        del self.abandoned[key, worker]
        self._note_idle(self.node_of(worker))

    def _note_idle(self, node: str) -> None:
        if not self.in_flight(node) and node not in self.nodes_idle_since:
            self.nodes_idle_since[node] = self.now_s
