"""What a placement policy is: an order of tasks, an order of nodes, and a choice.

A policy decides and does nothing else.  It has no clock, no files and no Dask;
it is asked once per task, when a thread and every gate slot that the task needs
are free, so a choice can not be overtaken by events.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from sage_dask.scheduling.view import NodeView, TaskView


@dataclass(frozen=True, slots=True)
class Placement:
    """Run the task on this node, now."""

    node: str
    reason: str
    """Reads well after the node's name: ``"least loaded: 0.4 tasks per thread"``."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Leave the task in the queue although a node could take it."""

    reason: str
    until_s: float
    """When to ask again; a task that ends or arrives is a reason to ask earlier."""


class ClusterView(Protocol):
    """What a policy may know when it places one task.

    Nodes are those that can take the task now, best first by the policy's own ``rank``.
    """

    now_s: float

    @property
    def best(self) -> NodeView:
        """The first node by the policy's rank; there always is one."""
        ...

    @property
    def nodes(self) -> Iterator[NodeView]:
        """All nodes that can take the task now, best first."""
        ...

    def get(self, name: str) -> NodeView | None:
        """Return a node if it can take the task now."""
        ...

    @property
    def num_queued(self) -> int:
        """Tasks that wait for the same resources and gates as this one, itself included."""
        ...

    @property
    def queued_s(self) -> float:
        """Measured durations of those tasks, added up."""
        ...

    @property
    def busy_threads(self) -> float:
        """Threads of the nodes that could serve such tasks and have tasks now."""
        ...


class Policy(ABC):
    """Where the next task runs, and which task is next.

    Subclass it, give it a ``name`` and a ``place``, and pass an instance wherever a policy's
    name is taken, or register the class as an entry point in the group
    ``sage_dask.policies``.
    """

    name: ClassVar[str]

    def precedence(self, task: TaskView) -> float:
        """Return the class of a task as it becomes ready; smaller classes go first.

        Within a class, jobs get their fair shares.
        """
        return 0.0

    def rank(self, node: NodeView) -> Any:
        """Return the key by which nodes are offered, smallest first; equal keys go by name.

        It may depend on nothing but the node: it is computed when the node changes, not at
        each decision.
        """
        return 0

    @abstractmethod
    def place(self, task: TaskView, cluster: ClusterView) -> Placement | Wait:
        """Choose among ``cluster.nodes``, or wait."""
