"""What an operator ordered the driver of one job to do, until it is done.

Orders come on another thread than the driver's, which looks at every turn.
"""

from __future__ import annotations

from collections.abc import Callable

from sage_dask.errors import JobCancelledError
from sage_dask.scheduling.on_dask.orders import Order

_SOURCE = "operator"


class Ordered:
    """The orders to one job.

    Args:
        job: Its name, ``"pipeline/id"``.
        scheduler: Address of its scheduler, for the words.
        note: Shows a short note beside the progress, or takes it away.
    """

    def __init__(self, job: str, scheduler: str, note: Callable[[str, str | None], object]) -> None:
        self._job = job
        self._scheduler = scheduler
        self._note = note
        self._cancelled_by: str | None = None
        self.is_paused = False
        """Whether the job starts nothing for now, so that standing still is as it should be."""

    def obey(self, order: Order) -> None:
        """Take an order; in any thread."""
        if order.what == "cancel":
            self._cancelled_by = order.by
            return
        self.is_paused = order.what == "pause"
        self._note(_SOURCE, self._told(order.by) if self.is_paused else None)

    def check(self) -> None:
        """Go on, unless somebody ended the job.

        Raises:
            JobCancelledError: Somebody did.
        """
        if self._cancelled_by is not None:
            raise JobCancelledError(
                f"job {self._job!r} was cancelled by {self._cancelled_by}; with a run folder it "
                "goes on where it was when it is run again"
            )

    def _told(self, by: str) -> str:
        return (
            f"paused by {by}; go on in the dashboard, or with 'sage-dask jobs resume {self._job} "
            f"--scheduler {self._scheduler}'"
        )
