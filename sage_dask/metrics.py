"""The numbers we report, each defined once, and how they are written.

Latencies arrive one value per batch with the number of records it stands for:
records of a batch are admitted and written together, so that is exact, and a
run of any length needs sixteen bytes per batch.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sage_dask.sketch import Sketch


def balance(amounts: Sequence[float]) -> float:
    """Return how evenly work was spread over nodes: 1.0 is even, 0.0 or less is lopsided.

    One minus standard deviation over mean, after the SAGE evaluation's "Metrics" paragraph;
    the deviation is the population's.  Idle nodes count as zeros.  No work at all is even.
    """
    if not amounts:
        raise ValueError("balance of no nodes; pass one amount per node, 0 for an idle one")
    mean = math.fsum(amounts) / len(amounts)
    if mean == 0:
        return 1.0
    variance = math.fsum((amount - mean) ** 2 for amount in amounts) / len(amounts)
    return 1.0 - math.sqrt(variance) / mean


def in_short(number: float) -> str:
    """Return a count to two or three digits, as people say it: ``850``, ``12.4k``, ``1.2M``.

    >>> [in_short(number) for number in (850, 12_400, 999_960, 1_234_567, 310_000)]
    ['850', '12.4k', '1M', '1.2M', '310k']
    """
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        # What would be rounded up to a thousand of the unit below belongs to this one.
        if number >= 0.99995 * size:
            scaled = number / size
            digits = f"{scaled:.0f}" if scaled >= 99.95 else f"{scaled:.1f}".removesuffix(".0")
            return digits + unit
    return f"{number:,.0f}"


def money(cost: float) -> str:
    """Return an amount of money: to the hundredth, and more digits where it is below one.

    >>> [money(cost) for cost in (0, 12.4, 1234.5, 0.123456, 0.00012345)]
    ['0.00', '12.40', '1,234.50', '0.123', '0.000123']
    """
    if cost >= 1 or not cost > 0:
        return f"{cost:,.2f}"
    return f"{cost:.{2 - math.floor(math.log10(cost))}f}"


def duration(seconds: float) -> str:
    """Return seconds in the unit that reads best; a dash for what was not measured.

    >>> [duration(seconds) for seconds in (0.0000214, 0.25, 7.5, 600.0, math.nan)]
    ['21 µs', '250.0 ms', '7.50 s', '10.0 min', '-']
    """
    if math.isnan(seconds):
        return "-"
    if seconds < 0.001:
        return f"{seconds * 1e6:.0f} µs"
    if seconds < 1:
        return f"{seconds * 1000:.1f} ms"
    if seconds < 120:
        return f"{seconds:.2f} s"
    return f"{seconds / 60:.1f} min"


def clock_time(seconds: float) -> str:
    """Return a duration as a clock shows it: ``0:07``, ``12:30``, ``1:02:05``."""
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def without_nan(value: Any) -> Any:
    """Return plain values with None for each number that is none: what was not measured."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(item) for item in value]
    return value


@dataclass(frozen=True, slots=True)
class LatencySummary:
    """Latency over all records of a run, in seconds."""

    mean_s: float
    p50_s: float
    p99_s: float
    num_records: int


class Latencies:
    """Latencies of records, kept exactly and compactly, and sketched for a quick look."""

    def __init__(self) -> None:
        self._seconds = array("d")
        self._counts = array("Q")
        self._weighted_s = 0.0
        self.sketch = Sketch()

    def add(self, seconds: float, num_records: int) -> None:
        """Count ``num_records`` records that each took ``seconds``."""
        if num_records:
            self._seconds.append(seconds)
            self._counts.append(num_records)
            self._weighted_s += seconds * num_records
            self.sketch.add(seconds, num_records)

    def glance(self) -> LatencySummary:
        """Return what ``summary`` does, with percentiles to one per cent, at any number's cost."""
        total = self.sketch.num_records
        return LatencySummary(
            mean_s=self._weighted_s / total if total else math.nan,
            p50_s=self.sketch.percentile(50),
            p99_s=self.sketch.percentile(99),
            num_records=total,
        )

    def percentile(self, percent: float) -> float:
        """Return the nearest-rank percentile: the smallest value that ``percent`` % do not exceed.

        Not a number where nothing was counted.
        """
        return self._nearest_rank(self._by_value(), percent)

    def summary(self) -> LatencySummary:
        """Return mean, median and 99th percentile; not a number where nothing was counted."""
        by_value = self._by_value()
        total = sum(self._counts)
        weighted = math.fsum(s * n for s, n in by_value)
        return LatencySummary(
            mean_s=weighted / total if total else math.nan,
            p50_s=self._nearest_rank(by_value, 50),
            p99_s=self._nearest_rank(by_value, 99),
            num_records=total,
        )

    def _by_value(self) -> list[tuple[float, int]]:
        return sorted(zip(self._seconds, self._counts, strict=True))

    def _nearest_rank(self, by_value: list[tuple[float, int]], percent: float) -> float:
        if not 0 < percent <= 100:
            raise ValueError(f"percentile {percent} is outside 0 < percent <= 100")
        # Exact in integers up to percentages with two decimals: a float product may land
        # a hair above a whole rank and point at the next record.
        rank = -(-round(percent * 100) * sum(self._counts) // 10_000)
        reached = 0
        for seconds, count in by_value:
            reached += count
            if reached >= rank:
                return seconds
        return math.nan
