"""The machines as the dispatcher counts them: what each has, what is taken, who can take more.

A pool keeps the nodes that can take one kind of task, in the policy's order.  A
change to a node is noted at once and reaches the pools before the next decision,
so a decision costs the logarithm of the number of nodes.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Set
from dataclasses import dataclass, field
from typing import Any

from sage_dask.schedule import THREADS
from sage_dask.scheduling.durations import Durations, Slowdown
from sage_dask.scheduling.ranked import Ranked
from sage_dask.scheduling.view import EPSILON, Amounts, Fit, NodeView, TaskView

# Workers report memory and processor every half second to a second.
STALE_AFTER_S = 5.0

# What a task that waits for others costs its node while it does, in seconds of a thread: sending
# and reading some tens of requests.  It keeps such tasks from all going to one node.
WAITING_TASK_S = 0.03

# Work counts half as much after this time, and counts are scaled down before they overflow.
_RECENT_S = 60.0
_LANDMARKS_S = 300 * _RECENT_S


@dataclass(frozen=True, slots=True)
class WorkerInfo:
    """A worker process as it joins."""

    address: str
    node: str
    """The machine it runs on."""
    threads: int = 1
    resources: Mapping[str, float] = field(default_factory=dict)


class Worker:
    """One worker process: what it has and what is free of it."""

    __slots__ = (
        "address",
        "capacity",
        "free",
        "idle_threads",
        "is_running",
        "node",
        "num_abandoned",
        "num_leases",
        "withheld",
    )

    def __init__(self, info: WorkerInfo, saturation: float, now_s: float) -> None:
        self.address = info.address
        self.node = info.node
        threads = math.ceil(info.threads * saturation)
        self.capacity: dict[str, float] = {**info.resources, THREADS: float(threads)}
        self.free = dict(self.capacity)
        self.is_running = True
        self.num_leases = 0
        # Tasks that share a thread give it back once each; there are no more than there are.
        self.idle_threads = deque([now_s] * threads, maxlen=threads)
        self.num_abandoned = 0
        """Cancelled tasks that are still running here."""
        self.withheld: frozenset[str] = frozenset()
        """Resources kept for one task that has waited too long for them."""

    def can_take(self, fit: Fit) -> bool:
        """Return whether a task fits into what is free and not kept for another."""
        if self.withheld and any(name in self.withheld for name, _ in fit.amounts):
            return False
        return self.has_room(fit)

    def has_room(self, fit: Fit) -> bool:
        """Return whether a task fits into what is free."""
        if not self.is_running or (fit.workers is not None and self.address not in fit.workers):
            return False
        free = self.free
        # A loop, here and in Node.can_take: asked at every decision, generators take twice as long.
        for name, amount in fit.amounts:  # noqa: SIM110 - for the reason above
            if free.get(name, 0.0) + EPSILON < amount:
                return False
        return True

    def lacking(self, fit: Fit) -> frozenset[str]:
        """Return the resources of which not enough is free for a task."""
        return frozenset(
            name for name, amount in fit.amounts if self.free.get(name, 0.0) + EPSILON < amount
        )

    def supplies(self, fit: Fit) -> bool:
        """Return whether a task fits once everything is free."""
        if fit.workers is not None and self.address not in fit.workers:
            return False
        return all(self.capacity.get(name, 0.0) + EPSILON >= amount for name, amount in fit.amounts)

    def take(self, amounts: Amounts) -> None:
        """Hold resources; the caller has asked whether they are free."""
        self.num_leases += 1
        for name, amount in amounts:
            # What was placed by others may exceed what there is.
            self.free[name] = self.free.get(name, 0.0) - amount
            if name == THREADS:
                for _ in range(min(math.ceil(amount), len(self.idle_threads))):
                    self.idle_threads.popleft()

    def give_back(self, amounts: Amounts, now_s: float) -> None:
        """Return resources."""
        self.num_leases -= 1
        for name, amount in amounts:
            self.free[name] += amount
            if name == THREADS:
                self.idle_threads.extend([now_s] * math.ceil(amount))
        if not self.num_leases:
            # Whatever fractions left behind is gone.
            self.free = dict(self.capacity)


class Node:
    """One machine and its workers."""

    def __init__(self, name: str, now_s: float) -> None:
        self.name = name
        self.workers: dict[str, Worker] = {}
        self.threads = 0.0
        self.in_flight = 0
        self.stages: Counter[str] = Counter()
        """Tasks that compute, by stage."""
        self.num_waiting = 0
        """Tasks that wait for others and take no thread."""
        self.placed_s = 0.0
        self.recent_s = 0.0
        self.num_placed = 0
        self.last_placed = 0
        self.slowdown = Slowdown()
        self.idle_since_s: float | None = now_s
        self._memory: float | None = None
        self._cpu: float | None = None
        self._measured_s = -math.inf

    def measure(self, memory: float | None, cpu: float | None, now_s: float) -> None:
        """Note what the node says of itself."""
        self._memory, self._cpu, self._measured_s = memory, cpu, now_s

    def worker_for(self, fit: Fit) -> Worker | None:
        """Return the worker with most idle threads that can take a task."""
        best: Worker | None = None
        for worker in self.workers.values():
            if worker.can_take(fit) and (
                best is None
                or (-worker.free[THREADS], worker.num_leases, worker.address)
                < (-best.free[THREADS], best.num_leases, best.address)
            ):
                best = worker
        return best

    def can_take(self, fit: Fit) -> bool:
        """Return whether any worker can take a task."""
        for worker in self.workers.values():  # noqa: SIM110 - a generator takes twice as long
            if worker.can_take(fit):
                return True
        return False

    def supplies(self, fit: Fit) -> bool:
        """Return whether any worker could ever take such a task."""
        return any(worker.supplies(fit) for worker in self.workers.values())

    def view(self, durations: Durations, now_s: float) -> NodeView:
        """Return what policies see."""
        is_fresh = now_s - self._measured_s <= STALE_AFTER_S
        return NodeView(
            self.name,
            self.threads,
            self.in_flight,
            sum(number * durations.estimate_s(stage) for stage, number in self.stages.items())
            + self.num_waiting * WAITING_TASK_S,
            self.recent_s,
            self.slowdown.value(now_s),
            durations.typical_s,
            self._memory if is_fresh else None,
            self._cpu if is_fresh else None,
            self.idle_since_s,
            min((w.idle_threads[0] for w in self.workers.values() if w.idle_threads), default=0.0),
            self.last_placed,
            self.num_waiting,
        )


class Pool:
    """The nodes that can take one kind of task, in the policy's order."""

    def __init__(self, fit: Fit) -> None:
        self.fit = fit
        self.ranked = Ranked()
        self.suppliers: set[str] = set()
        """Nodes that could take such a task if they were idle."""
        self.busy_threads = 0.0
        """Threads of those suppliers that have tasks."""
        self._busy: dict[str, float] = {}

    def update(self, node: Node) -> bool:
        """Note that a node changed; return whether it can take a task, and so needs a rank."""
        name = node.name
        can_take = node.can_take(self.fit)
        if not can_take:
            self.ranked.discard(name)
        busy = node.threads if node.in_flight and name in self.suppliers else 0.0
        before = self._busy.get(name, 0.0)
        if busy != before:
            self._busy[name] = busy
            self.busy_threads += busy - before
        return can_take

    def update_supply(self, node: Node) -> None:
        """Note that workers of a node joined or left."""
        if node.supplies(self.fit):
            self.suppliers.add(node.name)
        else:
            self.suppliers.discard(node.name)

    def drop(self, name: str) -> None:
        """Note that a node is gone."""
        self.ranked.discard(name)
        self.suppliers.discard(name)
        self.busy_threads -= self._busy.pop(name, 0.0)


class Nodes:
    """All nodes, their workers, and the pools over them."""

    def __init__(self, durations: Durations, saturation: float) -> None:
        self._durations = durations
        self._saturation = saturation
        self._nodes: dict[str, Node] = {}
        self._workers: dict[str, Worker] = {}
        self._views: dict[str, NodeView] = {}
        self._pools: dict[Fit, Pool] = {}
        self._changed: set[str] = set()
        self._landmark_s = 0.0

    def __getitem__(self, name: str) -> Node:
        return self._nodes[name]

    def __contains__(self, name: object) -> bool:
        return name in self._nodes

    def __iter__(self) -> Iterator[Node]:
        return iter(self._nodes.values())

    def __len__(self) -> int:
        return len(self._nodes)

    @property
    def workers(self) -> Mapping[str, Worker]:
        """Workers by address."""
        return self._workers

    def join(self, info: WorkerInfo, now_s: float) -> None:
        """Add a worker, and its node where that is new."""
        node = self._nodes.get(info.node)
        if node is None:
            node = self._nodes[info.node] = Node(info.node, now_s)
        worker = Worker(info, self._saturation, now_s)
        self._workers[info.address] = node.workers[info.address] = worker
        self._recount(node)

    def leave(self, address: str) -> None:
        """Remove a worker that holds nothing any more, and its node with the last one."""
        worker = self._workers.pop(address)
        node = self._nodes[worker.node]
        del node.workers[address]
        if node.workers:
            self._recount(node)
            return
        del self._nodes[node.name]
        self._views.pop(node.name, None)
        self._changed.discard(node.name)
        for pool in self._pools.values():
            pool.drop(node.name)

    def set_running(self, address: str, is_running: bool) -> None:
        """Note that a worker takes tasks, or does not for the time being."""
        worker = self._workers[address]
        if worker.is_running != is_running:
            worker.is_running = is_running
            self._changed.add(worker.node)

    def measure(self, name: str, memory: float | None, cpu: float | None, now_s: float) -> None:
        """Note what a node says of itself."""
        self._nodes[name].measure(memory, cpu, now_s)
        self._changed.add(name)

    def take(self, worker: Worker, task: TaskView, decision: int, now_s: float) -> float:
        """Place a task on a worker, and return what it is expected to take in seconds."""
        node = self._nodes[worker.node]
        worker.take(task.demand.fit.amounts)
        seconds = self._durations.estimate_s(task.stage)
        node.in_flight += 1
        if task.demand.threads:
            node.stages[task.stage] += 1
            self.count_work(node.name, seconds, now_s)
        else:
            node.num_waiting += 1
            self.count_work(node.name, WAITING_TASK_S, now_s)
        node.num_placed += 1
        node.last_placed = decision
        node.idle_since_s = None
        self._changed.add(node.name)
        return seconds

    def count_work(self, name: str, seconds: float, now_s: float) -> None:
        """Count work that a node was given, or correct what was expected of it.

        Recent work grows instead of old work shrinking, so that nodes whose counts were taken at
        different times can be compared as they are.
        """
        node = self._nodes[name]
        if now_s - self._landmark_s > _LANDMARKS_S:
            shrink = _growth(self._landmark_s - now_s)
            for each in self._nodes.values():
                each.recent_s *= shrink
            self._landmark_s = now_s
        node.placed_s += seconds
        node.recent_s += seconds * _growth(now_s - self._landmark_s)

    def give_back(self, address: str, task: TaskView, now_s: float) -> None:
        """Note that a task ended on its worker."""
        worker = self._workers[address]
        node = self._nodes[worker.node]
        worker.give_back(task.demand.fit.amounts, now_s)
        node.in_flight -= 1
        if task.demand.threads:
            node.stages[task.stage] -= 1
            if not node.stages[task.stage]:
                del node.stages[task.stage]
        else:
            node.num_waiting -= 1
        if not node.in_flight:
            node.idle_since_s = now_s
        self._changed.add(node.name)

    def withhold(self, address: str, resources: frozenset[str]) -> None:
        """Keep resources of a worker from everyone; an empty set ends that."""
        worker = self._workers.get(address)
        if worker is not None and worker.withheld != resources:
            worker.withheld = resources
            self._changed.add(worker.node)

    def pool(self, fit: Fit) -> Pool:
        """Return the pool for one kind of task; the first time, all nodes are looked at."""
        pool = self._pools.get(fit)
        if pool is None:
            pool = self._pools[fit] = Pool(fit)
            for node in self._nodes.values():
                pool.update_supply(node)
            self._changed.update(self._nodes)
        return pool

    def have_running(self, pool: Pool) -> bool:
        """Return whether a worker that is not paused could ever take a pool's tasks."""
        return any(
            worker.is_running and worker.supplies(pool.fit)
            for name in pool.suppliers
            for worker in self._nodes[name].workers.values()
        )

    def keep_pools(self, fits: Set[Fit]) -> None:
        """Forget the pools that nobody asks any more."""
        self._pools = {fit: pool for fit, pool in self._pools.items() if fit in fits}

    def view(self, name: str) -> NodeView:
        """Return what policies saw last of a node that can take a task."""
        return self._views[name]

    def forget_ranks(self) -> None:
        """Have every node ranked anew: keys of two policies can not be compared.

        What another policy gave to whom is no debt, either.
        """
        for node in self._nodes.values():
            node.recent_s = 0.0
        for pool in self._pools.values():
            pool.ranked = Ranked()
        self.change_all()

    def change_all(self) -> None:
        """Have every node looked at before the next decision."""
        self._changed.update(self._nodes)

    def refresh(self, rank: Callable[[NodeView], Any], now_s: float) -> None:
        """Bring the pools up to date with all changes."""
        for name in self._changed:
            node = self._nodes[name]
            open_pools = [pool for pool in self._pools.values() if pool.update(node)]
            if open_pools:
                view = self._views[name] = node.view(self._durations, now_s)
                key = rank(view)
                for pool in open_pools:
                    pool.ranked.put(name, key)
        self._changed.clear()

    def _recount(self, node: Node) -> None:
        node.threads = sum(worker.capacity[THREADS] for worker in node.workers.values())
        for pool in self._pools.values():
            pool.update_supply(node)
        self._changed.add(node.name)


def _growth(seconds: float) -> float:
    """Return how much more work counts that comes so much later."""
    return float(2.0 ** (seconds / _RECENT_S))
