"""What a user may choose for one run, and where it runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sage_dask.budget import Budget
from sage_dask.errors import PlanError
from sage_dask.schedule import Scheduling
from sage_dask.standing import Observer


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What a user may choose for one run."""

    ordered: bool = True
    """Write in the order of reading; False writes batches as they complete."""
    run_dir: Path | None = None
    """Folder for the run's events; None keeps none."""
    observer: Observer | None = None
    """Called with the progress after each write and when a note changes; never twice at once.

    Notes may come from another thread than the run's, and so do the calls that tell of them.
    """
    max_in_flight: int | None = None
    """Most batches handed out and not yet back; None for a few per thread."""
    scheduling: Scheduling = field(default_factory=Scheduling)
    """What the run asks of a cluster that it may share."""
    budget: Budget = field(default_factory=Budget)
    """What the run may spend; it ends in good order once that is spent."""

    def __post_init__(self) -> None:
        if self.max_in_flight is not None and self.max_in_flight < 1:
            raise PlanError(
                f"max_in_flight={self.max_in_flight} must be at least 1; leave it out for a few "
                "batches per thread"
            )


@dataclass(frozen=True, slots=True)
class Machines:
    """Where a job runs."""

    description: str
    """One phrase for the report, such as ``"on 4 nodes, 32 threads"``."""
    nodes: Sequence[str]
    """Names of all nodes, busy or not."""
    num_threads: int
    """Tasks that can run at once."""
