"""How many records travel together, steered by what the last batches took.

Small batches pay the scheduler for every few records, large ones make tails and
slow reactions.  The size follows the measured time per record towards a target
task time, growing by steps so that one lucky measurement can not overshoot.
"""

from __future__ import annotations

from sage_dask.plan import Batching

# Four-fold steps reach thousands of records in six batches, and overshoot the target at
# most four-fold where the time per record jumps.
_GROWTH = 4.0


class BatchSize:
    """The size of the next batch."""

    def __init__(self, batching: Batching) -> None:
        self._batching = batching
        self._size = float(batching.fixed or batching.first)
        self._bytes_per_record = 0.0

    @property
    def is_fixed(self) -> bool:
        """Whether the user chose the size."""
        return self._batching.fixed is not None

    def records(self) -> int:
        """Return how many records the next batch should have, at least one."""
        limit = self._batching.largest
        if self._batching.fixed is not None:
            return self._batching.fixed
        if self._bytes_per_record:
            limit = min(limit, int(self._batching.largest_bytes / self._bytes_per_record))
        return max(1, min(limit, int(self._size)))

    def observe(self, num_records: int, seconds: float) -> None:
        """Learn that the longest task of a batch of ``num_records`` was busy for ``seconds``."""
        if num_records < 1 or self._batching.fixed is not None:
            return
        target = self._batching.target_task_s
        size = self.records()
        wanted = num_records * target / max(seconds, 1e-9)
        if wanted >= size:
            # Batches sent before the last growth know nothing about the present size.
            if 2 * num_records >= size:
                self._size = min(wanted, num_records * _GROWTH)
        elif seconds > target or 2 * num_records >= size:
            self._size = (size + wanted) / 2
        self._size = max(1.0, min(self._size, self._batching.largest))

    def observe_bytes(self, num_records: int, num_bytes: int) -> None:
        """Learn that ``num_records`` take ``num_bytes`` when pickled."""
        if num_records < 1:
            return
        latest = num_bytes / num_records
        # Up at once, down slowly: one large record among small ones must not be forgotten
        # before its neighbours were read.
        self._bytes_per_record = max(latest, 0.5 * (self._bytes_per_record + latest))

    def __repr__(self) -> str:
        return f"<BatchSize {self.records()} records>"
