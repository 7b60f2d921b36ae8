"""Placement by measured load: spread it evenly, or pack it on few nodes.

Both count work in time, not in tasks: what is under way on a node is the sum of
its stages' measured durations.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sage_dask.scheduling.policy import ClusterView, Placement, Policy, Wait
from sage_dask.scheduling.view import NodeView, TaskView

# Below these shares a node is not under pressure; memory is where Dask starts to spill.
MEMORY_AT_EASE = 0.6
CPU_AT_EASE = 0.9


@dataclass(frozen=True)
class Spread(Policy):
    """The node on which the task would end first (LoadAware-Spread).

    What counts, in typical tasks: the work per thread that the node has and the task itself, both
    at the node's own speed; then how short it is of memory and processor; then what moving the
    task's inputs there takes.  Equal nodes go by the work they were given lately, then by name.

    Args:
        memory_weight: Typical tasks that a node with full memory is put behind.
        cpu_weight: Typical tasks that a node with a saturated processor is put behind.
        bytes_per_s: Speed at which inputs move between nodes.
    """

    name: ClassVar[str] = "spread"
    memory_weight: float = 2.0
    cpu_weight: float = 0.5
    bytes_per_s: float = 100e6

    def rank(self, node: NodeView) -> tuple[float, float]:
        """Return when a typical task given to the node would end, in typical tasks."""
        return self._end(node), node.recent_s

    def place(self, task: TaskView, cluster: ClusterView) -> Placement:
        """Choose the node with the earliest end, moving the inputs included."""
        if not task.inputs_bytes:
            node = cluster.best
            return Placement(node.name, f"least loaded: {node.load:.2f} tasks per thread")
        holders = (cluster.get(name) for name in task.inputs)
        candidates = [node for node in holders if node is not None]
        # Whoever holds none of the inputs has to fetch them all, so the least loaded is best.
        candidates += [node for node in cluster.nodes if node.name not in task.inputs][:1]
        moves = {node.name: self._move_s(task, node) for node in candidates}
        node = min(
            candidates,
            key=lambda n: (self._end(n) + moves[n.name] / n.typical_s, n.recent_s, n.name),
        )
        return Placement(
            node.name,
            f"least loaded: {node.load:.2f} tasks per thread, inputs move in "
            f"{moves[node.name]:.3f} s",
        )

    def _end(self, node: NodeView) -> float:
        # In quarters of a task: durations drift a little with every measurement, and nodes
        # with equally many tasks should still count as equal.
        ahead = round(4 * node.outstanding_s / node.typical_s) / 4 / node.threads
        return (ahead + 1) * node.slowdown + self._pressure(node)

    def _pressure(self, node: NodeView) -> float:
        return self.memory_weight * _above(node.memory, MEMORY_AT_EASE) + self.cpu_weight * _above(
            node.cpu, CPU_AT_EASE
        )

    def _move_s(self, task: TaskView, node: NodeView) -> float:
        return (task.inputs_bytes - task.inputs.get(node.name, 0)) / self.bytes_per_s


@dataclass(frozen=True)
class Pack(Policy):
    """As few nodes as meet a target wait (LoadAware-Pack).

    A node is open while it has tasks, and for a while after.  Open nodes are filled first, in the
    order of their names, so that the last ones run dry when load falls.  Another one is opened
    when the queue would take longer than the target on those that are open; it is the
    difference between that and the time an idle node stays open that keeps it from flapping.

    Args:
        target_wait_s: Longest wait in the queue that is worth saving a node.  Of 0.05 to 0.35 s
            on sixteen simulated nodes at a quarter of their load, 0.15 s was the shortest that
            never opened a sixth node; its P99 was 1.03 to 1.06 times that of ``spread``.
        stay_open_s: How long an idle node goes on counting as open.
    """

    name: ClassVar[str] = "pack"
    target_wait_s: float = 0.15
    stay_open_s: float = 5.0

    def rank(self, node: NodeView) -> tuple[bool, bool, float]:
        """Return busy nodes first, by name, then who went idle last, then who never had a task."""
        is_idle = node.idle_since_s is not None
        return is_idle, not node.last_placed, -(node.idle_since_s or 0.0)

    def place(self, task: TaskView, cluster: ClusterView) -> Placement | Wait:
        """Choose an open node with room, or open another one if waiting would take too long."""
        node = cluster.best
        if node.idle_since_s is None:
            return Placement(node.name, f"open, {node.num_computing}/{node.threads:g} threads busy")
        idle_s = cluster.now_s - node.idle_since_s
        if node.last_placed and idle_s < self.stay_open_s:
            return Placement(node.name, f"still open: idle for {idle_s:.3f} s")
        if not cluster.busy_threads:
            return Placement(node.name, "opened: no node that could take it is open")
        wait_s = cluster.queued_s / cluster.busy_threads
        if wait_s > self.target_wait_s:
            return Placement(node.name, f"opened: the queue would take {wait_s:.3f} s without it")
        # Durations may be wrong, or not known yet; what a task has waited is certain.
        deadline_s = task.ready_s + self.target_wait_s
        if cluster.now_s >= deadline_s:
            waited_s = cluster.now_s - task.ready_s
            return Placement(node.name, f"opened: the task has waited for {waited_s:.3f} s")
        return Wait(
            f"all open nodes are full, and the queue will take {wait_s:.3f} s, less than "
            f"{self.target_wait_s:g} s",
            until_s=deadline_s,
        )


def _above(share: float | None, at_ease: float) -> float:
    """Return how far a share is on its way from ease (0.0) to full (1.0)."""
    return 0.0 if share is None else max(0.0, share - at_ease) / (1 - at_ease)
