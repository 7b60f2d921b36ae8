"""What one run of a load came to, whoever ran it and in which process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sage_dask.report import Report


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One run, counted."""

    read: int
    written: int
    failed: int
    makespan_s: float
    """From the first read to the last write."""
    cpu_s: float
    """CPU seconds of all that took part but the server."""
    sent: int
    """Requests, retries included."""
    retries: int = 0
    rows: Sequence[Sequence[float]] = ()
    """When how many records were written: time by the monotonic clock, and their number."""

    @classmethod
    def of(
        cls, report: Report, cpu_s: float = 0.0, rows: Sequence[tuple[float, int]] = ()
    ) -> Result:
        """Return what a report says; the accounts were checked when it was made."""
        return cls(
            read=report.num_read,
            written=report.num_written,
            failed=report.num_failed,
            makespan_s=report.makespan_s,
            cpu_s=cpu_s,
            sent=report.usage.requests,
            retries=report.usage.retries,
            rows=rows,
        )

    @property
    def throughput(self) -> float:
        """Records written per second."""
        return self.written / self.makespan_s if self.makespan_s else 0.0

    @property
    def later_throughput(self) -> float:
        """Records written per second after the middle of the time: what was searched is found."""
        if not self.rows:
            return 0.0
        first_s, last_s = self.rows[0][0], self.rows[-1][0]
        middle_s = (first_s + last_s) / 2
        number = sum(number for at_s, number in self.rows if at_s > middle_s)
        return number / (last_s - middle_s) if last_s > middle_s else 0.0

    @property
    def cpu_ms(self) -> float:
        """CPU milliseconds per record written."""
        return 1000 * self.cpu_s / max(self.written, 1)

    @property
    def lost(self) -> int:
        """Records that were read and came to nothing."""
        return self.read - self.written - self.failed

    def rate(self, from_s: float, until_s: float) -> float:
        """Return records written per second between two times."""
        number = sum(number for at_s, number in self.rows if from_s <= at_s < until_s)
        return number / (until_s - from_s)
