"""One task to each node in turn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sage_dask.scheduling.policy import ClusterView, Placement, Policy
from sage_dask.scheduling.view import NodeView, TaskView


@dataclass(frozen=True)
class RoundRobin(Policy):
    """The next node with room, in turn.

    Whose last turn is longest ago is next.  While all nodes have room that is the cycle through
    them; a node that was full when its turn came gets it as soon as it has room again.
    """

    name: ClassVar[str] = "round-robin"

    def rank(self, node: NodeView) -> int:
        """Return when the node had its last turn."""
        return node.last_placed

    def place(self, task: TaskView, cluster: ClusterView) -> Placement:
        """Choose the node whose last turn is longest ago."""
        node = cluster.best
        return Placement(node.name, f"its turn: last chosen by decision {node.last_placed}")
