"""What will run: stages grouped into tasks, and how many records travel together.

A plan is data.  It is a directed acyclic graph of stage plans in its types, so
that branches can come without a new shape; today's planner writes chains.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sage_dask.stage import FieldSet, Sink, Source, Stage


@dataclass(frozen=True, slots=True)
class StagePlan:
    """Neighbouring stages that run as one task."""

    stages: tuple[Stage, ...]
    inputs: tuple[str, ...] = ()
    """Names of the stage plans whose output this one takes; none reads the source."""

    @property
    def name(self) -> str:
        """Stage names joined by ``+``: what keys, the dashboard and the report show."""
        return "+".join(stage.name for stage in self.stages)

    @property
    def resources(self) -> Mapping[str, float]:
        """Worker resources that one task holds while it runs."""
        return self.stages[0].resources

    @property
    def priority(self) -> int:
        """Higher runs first among tasks that are ready."""
        return self.stages[0].priority


# A quarter of the published cost per item went into hops; a task of 0.2 s spends under 1 % of
# its time in the scheduler (0.5 to 0.6 ms per task) and still lets priorities act quickly.
TARGET_TASK_S = 0.2


@dataclass(frozen=True, slots=True)
class Batching:
    """How many records travel together."""

    target_task_s: float = TARGET_TASK_S
    """Busy time that the longest task of a batch is steered to."""
    first: int = 4
    """Records in the first batches, before anything is measured."""
    largest: int = 4096
    largest_bytes: int = 8 << 20
    """Most pickled bytes that travel together, once the size of a record is known."""
    fixed: int | None = None
    """A size chosen by the user, which nothing adapts."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A checked pipeline, ready for any runner."""

    pipeline: str
    source: Source
    stages: tuple[StagePlan, ...]
    """In an order in which every stage plan follows its inputs."""
    sink: Sink
    batching: Batching = field(default_factory=Batching)
    fields: Mapping[str, FieldSet] = field(default_factory=dict)
    """What records carry after the source (``"read"``) and after each stage."""
    notes: tuple[str, ...] = ()
    """Why the plan is as it is, one sentence per decision."""
