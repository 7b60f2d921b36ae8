"""First come, first served, by whoever has been waiting longest: the baseline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sage_dask.scheduling.policy import ClusterView, Placement, Policy
from sage_dask.scheduling.view import NodeView, TaskView


@dataclass(frozen=True)
class Fifo(Policy):
    """Tasks in the order in which jobs handed them over, on the node with the longest idle thread.

    "The first node by name with room" would be shorter, and a pack in disguise.  Jobs get no
    fair shares: whoever came first is served first.
    """

    name: ClassVar[str] = "fifo"

    def precedence(self, task: TaskView) -> float:
        """Return when the task was handed over."""
        return task.arrived_s

    def rank(self, node: NodeView) -> tuple[float, int]:
        """Return since when a thread has been idle; of equal ones, who was chosen longest ago."""
        return node.free_since_s, node.last_placed

    def place(self, task: TaskView, cluster: ClusterView) -> Placement:
        """Choose the node with the longest idle thread."""
        node = cluster.best
        idle_s = cluster.now_s - node.free_since_s
        return Placement(node.name, f"longest idle: a thread was free for {idle_s:.3f} s")
