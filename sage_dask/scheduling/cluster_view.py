"""What a policy sees of the cluster when it places a task: live, indexed, and not to be changed."""

from __future__ import annotations

from collections.abc import Iterator

from sage_dask.scheduling.durations import Durations
from sage_dask.scheduling.nodes import Nodes
from sage_dask.scheduling.queue import Line
from sage_dask.scheduling.view import NodeView


class LineView:
    """The cluster as the tasks of one line see it: a :class:`~.policy.ClusterView`."""

    __slots__ = ("_durations", "_line", "_nodes", "now_s")

    def __init__(self, line: Line, nodes: Nodes, durations: Durations, now_s: float) -> None:
        self._line = line
        self._nodes = nodes
        self._durations = durations
        self.now_s = now_s

    @property
    def best(self) -> NodeView:
        """The first node by the policy's rank; there always is one."""
        return self._nodes.view(self._line.pool.ranked.first)

    @property
    def nodes(self) -> Iterator[NodeView]:
        """All nodes that can take the task now, best first."""
        return map(self._nodes.view, self._line.pool.ranked)

    def get(self, name: str) -> NodeView | None:
        """Return a node if it can take the task now."""
        return self._nodes.view(name) if name in self._line.pool.ranked else None

    @property
    def num_queued(self) -> int:
        """Tasks that wait for the same resources and gates, this one included."""
        return self._line.size

    @property
    def queued_s(self) -> float:
        """Measured durations of those tasks, added up."""
        return sum(
            number * self._durations.estimate_s(stage)
            for stage, number in self._line.stages.items()
        )

    @property
    def busy_threads(self) -> float:
        """Threads of the nodes that could serve such tasks and have tasks now."""
        return self._line.pool.busy_threads
