"""Policies are other people's code: whatever one does wrong becomes a ``PolicyError``."""

from __future__ import annotations

import math
import traceback
from collections.abc import Callable
from typing import Any, NoReturn

from sage_dask.errors import PolicyError
from sage_dask.scheduling.policy import ClusterView, Placement, Policy, Wait
from sage_dask.scheduling.view import NodeView, TaskView

# A scheduler that decides for a second does not hear its workers for a second.
SLOWEST_S = 1.0

# At twenty milliseconds each, decisions limit the cluster to fifty tasks per second.
SLOWEST_AVERAGE_S = 0.02
_AVERAGED = 50


class GuardedPolicy:
    """Asks a policy, and checks what it answers.

    Args:
        policy: Whom to ask.
        timer: A clock in seconds, to notice a policy that is slow; None where there is none.
    """

    def __init__(self, policy: Policy, timer: Callable[[], float] | None = None) -> None:
        self.policy = policy
        self._timer = timer
        self._average_s = 0.0

    @property
    def name(self) -> str:
        """The policy's name."""
        return self.policy.name

    def precedence(self, task: TaskView) -> float:
        """Ask for a task's class.

        Raises:
            PolicyError: The policy raised, or gave something other than a number.
        """
        try:
            precedence = float(self.policy.precedence(task))
        except Exception as error:
            self.fail(f"raised {type(error).__name__} for task {task.key!r}: {error}", error)
        if math.isnan(precedence):
            self.fail(f"gave task {task.key!r} the precedence nan; return a number")
        return precedence

    def rank(self, node: NodeView) -> Any:
        """Ask for a node's place.

        Raises:
            PolicyError: The policy raised.
        """
        try:
            return self.policy.rank(node)
        except Exception as error:
            self.fail(f"raised {type(error).__name__} for node {node.name!r}: {error}", error)

    def place(self, task: TaskView, cluster: ClusterView) -> Placement | Wait:
        """Ask where a task runs.

        Raises:
            PolicyError: The policy raised, was slow, or chose a node that can not take the task.
        """
        started = self._timer() if self._timer is not None else 0.0
        try:
            answer = self.policy.place(task, cluster)
        except Exception as error:
            self.fail(f"raised {type(error).__name__} for task {task.key!r}: {error}", error)
        if self._timer is not None:
            self._check_time(self._timer() - started)
        if isinstance(answer, Placement):
            if not isinstance(answer.node, str) or cluster.get(answer.node) is None:
                self.fail(
                    f"placed task {task.key!r} on {answer.node!r}, which is not one of the nodes "
                    "that can take it; choose among cluster.nodes"
                )
        elif not isinstance(answer, Wait):
            self.fail(f"answered {answer!r} for task {task.key!r}; return Placement or Wait")
        elif not answer.until_s > cluster.now_s:
            self.fail(
                f"lets task {task.key!r} wait until {answer.until_s}, and it is {cluster.now_s} "
                "already; name a time to come, or place the task"
            )
        return answer

    def _check_time(self, seconds: float) -> None:
        self._average_s += (seconds - self._average_s) / _AVERAGED
        if seconds > SLOWEST_S or self._average_s > SLOWEST_AVERAGE_S:
            self.fail(
                f"is too slow: the last decision took {1000 * seconds:.0f} ms (limit "
                f"{1000 * SLOWEST_S:.0f} ms, {1000 * SLOWEST_AVERAGE_S:.0f} ms on average); use "
                "rank(), which is kept in order, instead of comparing all nodes"
            )

    def fail(self, what: str, error: Exception | None = None) -> NoReturn:
        """Raise what the policy did wrong, with its traceback where there is one."""
        where = "".join(traceback.format_exception(error)) if error is not None else ""
        raise PolicyError(f"policy {self.policy.name!r} {what}", where) from error
