"""The most urgent task first, and the least urgent one after a bounded wait."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar

from sage_dask.errors import PlanError
from sage_dask.scheduling.load_aware import Spread
from sage_dask.scheduling.policy import ClusterView, Placement, Policy, Wait
from sage_dask.scheduling.view import NodeView, TaskView


@dataclass(frozen=True)
class Priority(Policy):
    """Tasks by priority, which grows while they wait; nodes as another policy places.

    Waiting adds ``ageing`` levels per second.  All tasks age equally fast, so the order of two
    never changes and follows from when they came: no queue is sorted again.  Of tasks that are a
    fraction of a level apart, jobs get their fair shares.

    Levels are whole numbers once waiting counts, so a task at level p is before all that come
    more than ``(q - p + 1) / ageing`` seconds after it at level q, and waits for no more than what
    came before: that is the bound on its wait.

    Args:
        place_by: Who chooses the node; ``place="pack"`` where a policy is named.
        ageing: Levels per second of waiting; above zero.
    """

    name: ClassVar[str] = "priority"
    place_by: Policy = field(default_factory=Spread)
    ageing: float = 0.1

    def __post_init__(self) -> None:
        if not self.ageing > 0:
            raise PlanError(
                f"priority(ageing={self.ageing}) would let the lowest class wait for ever under a "
                "stream of the highest; give levels per second above 0"
            )

    def precedence(self, task: TaskView) -> float:
        """Return the level, at a time that is the same for all: what waiting gains cancels out.

        Counted from when the task was handed over, so that a record does not age anew at each
        of its stages.
        """
        return math.floor(self.ageing * task.arrived_s - task.priority)

    def rank(self, node: NodeView) -> Any:
        """Rank nodes as the placing policy does."""
        return self.place_by.rank(node)

    def place(self, task: TaskView, cluster: ClusterView) -> Placement | Wait:
        """Choose as the placing policy does."""
        answer = self.place_by.place(task, cluster)
        if isinstance(answer, Wait):
            return answer
        return Placement(answer.node, f"priority {task.priority:g}; {answer.reason}")
