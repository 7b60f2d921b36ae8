"""How many records of a run may fail before it is not worth going on."""

from __future__ import annotations

from dataclasses import dataclass

from sage_dask.errors import PlanError, counted

# A share says nothing of the first few records.
LEAST_READ = 100


@dataclass(frozen=True, slots=True)
class MaxErrors:
    """The most failures that a run may have.

    Args:
        limit: A whole number of records; a fraction, as a share of those that were read; or None
            for any number.  A share is looked at once a hundred records were read, and at the end.
    """

    limit: int | float | None = None

    def __post_init__(self) -> None:
        limit = self.limit
        is_count = isinstance(limit, int) and not isinstance(limit, bool) and limit >= 0
        is_share = isinstance(limit, float) and 0 < limit < 1
        if limit is not None and not is_count and not is_share:
            raise PlanError(
                f"max_errors={limit!r} is neither a number of records, such as 10, nor a share "
                "above 0 and below 1, such as 0.01; leave it out for no limit"
            )

    def excess(self, num_failed: int, num_read: int, *, is_end: bool) -> str | None:
        """Return what is to be told if there are too many; None if there are not.

        Args:
            num_failed: Records that failed so far.
            num_read: Records that are done so far.
            is_end: Whether no more will come.
        """
        if self.limit is None or num_failed <= self._most(num_read):
            return None
        if isinstance(self.limit, float) and num_read < LEAST_READ and not is_end:
            return None
        return (
            f"{num_failed:,} of {counted(num_read, 'record')} failed, more than "
            f"max_errors={self.limit:g} allows; mend their cause and run again with retry_failed, "
            "or raise max_errors"
        )

    def _most(self, num_read: int) -> float:
        return self.limit * num_read if isinstance(self.limit, float) else self.limit or 0
