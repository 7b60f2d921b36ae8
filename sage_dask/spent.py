"""What the time of a batch is spent on: one name for each thing, and who measures it.

The driver's watch divides a batch's whole life, without a gap.  While the batch is
away, scheduler and worker say what they know of it, each by its own clock; what
remains of the time away it was between them.
"""

from __future__ import annotations

from collections.abc import Mapping

# By the driver's clock; together they are the batch's whole latency.
ADMISSION = "admission"
"""Reading its records, packing them and handing them over."""
AWAY = "away"
"""In the cluster, from being handed over to being back."""
HERE = "here"
"""In stages that run in this process."""
RETURN = "return"
"""Back, and waiting for the driver to look at it."""
COMMIT = "commit"
"""Waiting for its turn in the output, and being written or committed."""

# By the scheduler's clock, for each task.
SCHEDULING = "scheduling"
"""Ready, until the dispatcher has looked at it and carried out what it decided."""
NODE = "node"
"""No node had enough free."""
GATE = "gate"
"""A gate, or its model server, had no slot."""
QUOTA = "quota"
"""Its own job held all that it may, or was paused."""
POLICY = "policy"
"""The policy had it wait, or a place was kept for another task."""
LOST = "lost"
"""On workers that died, or gave it back."""

# By the worker's clock, for each task.
INPUTS = "inputs"
"""Fetching what it needs from other workers."""
QUEUE = "queue"
"""On its worker, waiting for a thread."""
PACKING = "packing"
"""Around the stages: unpacking the batch, changing threads, seeing that it can travel on."""

SCHEDULER_WAITS = (SCHEDULING, NODE, GATE, QUOTA, POLICY)


class Watch:
    """Divides the time of one batch among what it is spent on.

    Args:
        now_s: When its time begins, by the driver's clock.
    """

    __slots__ = ("_lap_s", "_spent")

    def __init__(self, now_s: float) -> None:
        self._lap_s = now_s
        self._spent: dict[str, float] = {}

    def lap(self, what: str, now_s: float) -> None:
        """Say what the time since the last lap was spent on; one that is over counts nothing."""
        if now_s > self._lap_s:
            self._spent[what] = self._spent.get(what, 0.0) + now_s - self._lap_s
            self._lap_s = now_s

    @property
    def spent(self) -> Mapping[str, float]:
        """Seconds by what they were spent on; their sum is the time from beginning to last lap."""
        return dict(self._spent)
