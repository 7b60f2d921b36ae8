"""What an operator ordered the driver of one job to do, until it is done.

Orders come on the client's own loop, which may not wait for whoever is told of them; the
driver looks at every turn.
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
        self._paused_by: str | None = None

    @property
    def is_paused(self) -> bool:
        """Whether the job starts nothing for now, so that standing still is as it should be."""
        return self._paused_by is not None

    def obey(self, order: Order) -> None:
        """Take an order; in any thread."""
        if order.what == "cancel":
            self._cancelled_by = order.by
        else:
            self._paused_by = order.by if order.what == "pause" else None

    def check(self) -> None:
        """Go on, unless somebody ended the job, and show whether somebody paused it.

        Raises:
            JobCancelledError: Somebody did.
        """
        if self._cancelled_by is not None:
            raise JobCancelledError(
                f"job {self._job!r} was cancelled by {self._cancelled_by}; with a run folder it "
                "goes on where it was when it is run again"
            )
        by = self._paused_by
        self._note(_SOURCE, None if by is None else self._told(by))

    def _told(self, by: str) -> str:
        return (
            f"paused by {by}; go on in the dashboard, or with 'sage-dask jobs resume {self._job} "
            f"--scheduler {self._scheduler}'"
        )
