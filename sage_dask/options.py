"""What a user may choose for one run, and where it runs."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sage_dask.budget import Budget
from sage_dask.errors import PlanError
from sage_dask.launch import Launch, current_launch
from sage_dask.max_errors import MaxErrors
from sage_dask.schedule import Scheduling
from sage_dask.standing import Observer
from sage_dask.watchdog import MAX_STALL_S


@dataclass(frozen=True, slots=True)
class Resuming:
    """What may differ when a run goes on in its folder."""

    retry_failed: bool = False
    """Try the records again that failed."""
    accept_changes: Collection[str] = ()
    """Stages that may differ from those that the run was begun with."""
    extend: bool = False
    """Whether the input may have records that it had not."""


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What a user may choose for one run."""

    ordered: bool = True
    """Write in the order of reading; False writes batches as they complete."""
    run_dir: Path | None = None
    """Folder of the run, from which it goes on if it was begun there; None keeps none."""
    durable: bool = True
    """Whether the folder gets a journal; without one it must be new and holds events alone."""
    resuming: Resuming = field(default_factory=Resuming)
    """What may differ from the start that began the run."""
    follow: bool = False
    """Write what is done to a growing file in the folder, for those who want to watch."""
    max_errors: MaxErrors = field(default_factory=MaxErrors)
    """How many records may fail; more of them end the run."""
    max_stall_s: float = MAX_STALL_S
    """Seconds without progress that end the run, resumably."""
    launch: Launch | None = field(default_factory=current_launch)
    """How the command line started the run, if it did."""
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
        if not self.max_stall_s > 0:
            raise PlanError(
                f"max_stall_s={self.max_stall_s!r} must be a positive number of seconds; leave it "
                f"out for {MAX_STALL_S:.0f}"
            )
        asked = self.follow or self.resuming != Resuming()
        if asked and not self.has_journal:
            raise PlanError(
                "retry_failed, accept_changes, extend and follow are about a run's journal, and "
                "this run keeps none; give run_dir, and leave durable as it is"
            )

    @property
    def has_journal(self) -> bool:
        """Whether the run can be killed and go on."""
        return self.durable and self.run_dir is not None


@dataclass(frozen=True, slots=True)
class Machines:
    """Where a job runs."""

    description: str
    """One phrase for the report, such as ``"on 4 nodes, 32 threads"``."""
    nodes: Sequence[str]
    """Names of all nodes, busy or not."""
    num_threads: int
    """Tasks that can run at once."""
    has_keys: bool = False
    """Whether tasks run under keys of Dask's, by which its scheduler can be asked for them."""
