"""What one run asks of a cluster that it may share: placement, gates, and its own part.

Plain values, checked where they are given.  The scheduler acts on them; a run in
this process has nobody to share with, and ignores them all but the gates of model
servers and ``record_priority``, which is checked there too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from numbers import Real
from typing import Any

from sage_dask.errors import PlanError

# The policy that is none of ours: Dask's own placement.
STOCK = "dask"

# The one annotation by which the scheduler plugin knows the tasks that it holds.
SAGE = "sage"

# What a quota calls the tasks that run at once: each of them takes a thread.
THREADS = "threads"


@dataclass(frozen=True, slots=True)
class Scheduling:
    """How the tasks of one run are placed, and what they get beside those of others."""

    policy: str | Any | None = None
    """Name of a policy, or a policy; None for the one that the cluster has."""
    gates: Mapping[str, int] = field(default_factory=dict)
    """Limits of cluster-wide gates, set before the run; they stay afterwards."""
    priority: float = 0.0
    """Of the whole job; higher runs first."""
    weight: float = 1.0
    """Share of the cluster among jobs: 2 gets twice what 1 gets."""
    quota: Mapping[str, float] = field(default_factory=dict)
    """Most that the job may hold at once, by worker resource, by gate, or of ``"threads"``."""
    record_priority: str | None = None
    """Field of the source's records that holds a number, higher first; 0 where it is absent."""

    def __post_init__(self) -> None:
        for gate, slots in self.gates.items():
            if type(slots) is not int or slots < 1:
                raise PlanError(
                    f"gate {gate!r} is given {slots!r} slots, and a positive whole number is wanted"
                )
        for name, amount in self.quota.items():
            if not is_positive(amount):
                raise PlanError(
                    f"the quota of {name!r} is {amount!r}, and a positive number is wanted; "
                    "leave it out for no limit"
                )
        if not is_positive(self.weight):
            raise PlanError(
                f"weight={self.weight!r} must be a positive number; a job of weight 2 gets twice "
                "the share of one of weight 1"
            )
        if finite(self.priority) is None:
            raise PlanError(
                f"priority={self.priority!r} must be a finite number; higher runs first"
            )
        if self.record_priority is not None and not isinstance(self.record_priority, str):
            raise PlanError(
                f"record_priority={self.record_priority!r} must be the name of a field; the "
                "priority of a whole job is priority=..."
            )

    @property
    def is_stock(self) -> bool:
        """Whether placement is left to Dask."""
        return isinstance(self.policy, str) and self.policy == STOCK

    @property
    def policy_name(self) -> str:
        """Name of the policy that the run asks for; empty where it takes what is there."""
        if self.policy is None or isinstance(self.policy, str):
            return self.policy or ""
        return str(getattr(self.policy, "name", type(self.policy).__name__))


def job_name(pipeline: str, job: str) -> str:
    """Return what the scheduler and its users call a job; operators may name a pipeline alone."""
    return f"{pipeline}/{job}"


def finite(value: object) -> float | None:
    """Return a finite number as float; None for all else, such as a text, ``True`` or NaN."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def is_positive(value: object) -> bool:
    """Return whether a value is a finite number above 0."""
    number = finite(value)
    return number is not None and number > 0
