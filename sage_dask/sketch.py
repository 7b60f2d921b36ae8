"""Latencies in buckets that grow by two per cent: little memory, percentiles to one per cent.

Exact percentiles need every value; this is for what is looked at while a run goes
on.  Sketches subtract, so that a window is the difference of two moments.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import accumulate

# Neighbouring bounds differ by this factor, so the middle of a bucket is off by one per cent.
_GROWTH = 1.02
_LOG_GROWTH = math.log(_GROWTH)

# What is shorter counts as this long: no latency that anybody asks about.
_LEAST_S = 1e-6


class Sketch:
    """Counts of records by latency.

    Args:
        counts: Records by bucket, as ``counts`` of another sketch gives them.
    """

    def __init__(self, counts: Mapping[int, int] | None = None) -> None:
        self._counts: dict[int, int] = dict(counts or {})

    def add(self, seconds: float, num_records: int = 1) -> None:
        """Count records that each took ``seconds``."""
        bucket = _bucket(seconds)
        self._counts[bucket] = self._counts.get(bucket, 0) + num_records

    @property
    def counts(self) -> Mapping[int, int]:
        """Records by bucket; bucket ``b`` ends at ``1.02 ** b`` seconds."""
        return dict(self._counts)

    @property
    def num_records(self) -> int:
        """How many records were counted."""
        return sum(self._counts.values())

    def merge(self, other: Sketch) -> None:
        """Count what another sketch counted, too."""
        for bucket, count in other.counts.items():
            self._counts[bucket] = self._counts.get(bucket, 0) + count

    def distribution(self) -> list[tuple[float, float]]:
        """Return latencies, ascending, with the share of records that took no longer.

        One per bucket in which there is any, so a few hundred of them at most in practice.
        """
        total, reached = self.num_records, 0
        points = []
        for bucket in sorted(self._counts):
            reached += self._counts[bucket]
            points.append((math.exp((bucket - 0.5) * _LOG_GROWTH), reached / total))
        return points

    def since(self, earlier: Mapping[int, int]) -> Sketch:
        """Return what was counted since the counts were ``earlier``."""
        grown = {
            bucket: count - earlier.get(bucket, 0)
            for bucket, count in self._counts.items()
            if count > earlier.get(bucket, 0)
        }
        return Sketch(grown)

    def percentile(self, percent: float) -> float:
        """Return the nearest-rank percentile to one per cent; not a number where nothing is."""
        rank = math.ceil(percent / 100 * self.num_records - 1e-9)
        reached = 0
        for bucket in sorted(self._counts):
            reached += self._counts[bucket]
            if reached >= rank > 0:
                return math.exp((bucket - 0.5) * _LOG_GROWTH)
        return math.nan

    def share_below(self, seconds: float) -> float:
        """Return the share of records that took less than ``seconds`` by a bucket or more.

        Those of the same batch take as long, and are not among them.  0.0 where nothing is.
        """
        bucket = _bucket(seconds)
        below = sum(count for each, count in self._counts.items() if each < bucket)
        return below / self.num_records if below else 0.0

    def at_most(self, bounds: Sequence[float]) -> list[int]:
        """Return for each bound, all above 0, how many took no longer, to one per cent of it."""
        buckets = sorted(self._counts)
        reached = [0, *accumulate(self._counts[bucket] for bucket in buckets)]
        # A bucket counts where its middle does.
        last = (math.floor(math.log(bound) / _LOG_GROWTH + 0.5) for bound in bounds)
        return [reached[bisect_right(buckets, bucket)] for bucket in last]


def _bucket(seconds: float) -> int:
    return math.ceil(math.log(max(seconds, _LEAST_S)) / _LOG_GROWTH)
