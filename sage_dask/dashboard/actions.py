"""What may be done from a scheduler's own dashboard: the actions, carried out where it runs."""

from __future__ import annotations

from distributed.scheduler import Scheduler

from sage_dask.dashboard.board import Board
from sage_dask.errors import PlanError
from sage_dask.scheduling.on_dask.configured import may_control
from sage_dask.scheduling.on_dask.orders import Order
from sage_dask.scheduling.on_dask.remote import Remote, predecessor_of

BY = "an operator in the dashboard"


class SchedulerActions:
    """The actions on one scheduler; all of them refuse unless it was started to allow them.

    Args:
        scheduler: Whose jobs they are.
        board: Knows the jobs.
    """

    def __init__(self, scheduler: Scheduler, board: Board) -> None:
        self._scheduler = scheduler
        self._board = board

    def pause(self, job: str) -> None:
        """Have a job start nothing until it is resumed."""
        self._check(job)
        self._dispatcher().set_paused(job, True, BY)

    def resume(self, job: str) -> None:
        """Have a job go on."""
        self._check(job)
        self._dispatcher().set_paused(job, False, BY)

    def cancel(self, job: str) -> None:
        """End a job; what is done is kept, and it may be resumed where it has a run folder."""
        self._check(job)
        Order(job, "cancel", BY).send(self._scheduler.log_event)

    def set_policy(self, policy: str) -> None:
        """Have another policy decide.

        Raises:
            PlanError: Nobody knows it.
        """
        self._check()
        self._dispatcher().set_policy(policy, None)

    def set_gate(self, name: str, limit: float | None) -> None:
        """Set the slots of a gate, or of a model server by its URL; None for what is found.

        Raises:
            PlanError: The limit makes no sense.
        """
        self._check()
        self._dispatcher().set_gate(name, limit)

    def _dispatcher(self) -> Remote:
        host = predecessor_of(self._scheduler)
        if host is None:
            raise PlanError(
                "stock Dask places all tasks here, and knows neither pauses, policies nor gates; "
                "run a pipeline with a policy first"
            )
        return Remote(host)

    def _check(self, job: str | None = None) -> None:
        if not may_control():
            raise PlanError(
                "the dashboard may not change anything here; start the scheduler with "
                "DASK_SAGE__ALLOW_CONTROL=true in its environment, or LocalNodes with "
                "allow_control=True"
            )
        if job is not None and not self._board.is_running(job):
            raise PlanError(f"no job {job!r} runs here; it has ended, or was never here")
