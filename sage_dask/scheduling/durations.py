"""How long tasks take: by stage, and how much longer on one node than on others.

Everything decays, because stages change with their batches and nodes with their
neighbours.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

# What Dask assumes of a task that was never measured.
UNKNOWN_S = 0.5

# Tasks after which a stage's duration is an average of the last ones.
_MEMORY = 20

# Stages of pipelines that come and go; the oldest is forgotten, and would be learnt again.
_MOST_STAGES = 4096

# Observations that speak for "as fast as the others" before there are any, and the most that
# count; half of the evidence is forgotten every half-life, so that a node which is avoided is
# tried again.
_PRIOR = 4.0
_MOST = 40.0
_HALF_LIFE_S = 30.0

# Below this difference nodes count as equally fast.
_NOTABLE = 1.15


class Durations:
    """Measured seconds per task."""

    def __init__(self) -> None:
        self._stages: dict[str, _Mean] = {}
        self._typical = _Mean()

    def is_known(self, stage: str) -> bool:
        """Return whether a task of a stage was ever measured."""
        return stage in self._stages

    def estimate_s(self, stage: str) -> float:
        """Return what a task of a stage is expected to take on an average node."""
        mean = self._stages.get(stage)
        return mean.value if mean is not None else UNKNOWN_S

    @property
    def typical_s(self) -> float:
        """What tasks of all stages took lately, on average."""
        return self._typical.value if self._typical.count else UNKNOWN_S

    def observe(self, stage: str, seconds: float, *, is_work: bool = True) -> None:
        """Learn from a task that is done.

        Args:
            stage: Whose it was.
            seconds: What it took.
            is_work: Whether it computed; what others wait for measures no load.
        """
        # Nothing is for nothing: loads are divided by durations.
        seconds = max(seconds, 1e-6)
        mean = self._stages.get(stage)
        if mean is None:
            mean = self._stages[stage] = _Mean()
            if len(self._stages) > _MOST_STAGES:
                del self._stages[next(iter(self._stages))]
        mean.add(seconds)
        if is_work:
            self._typical.add(seconds)


class _Mean:
    """An average of the last values, and of all values while there are few."""

    __slots__ = ("count", "value")

    def __init__(self) -> None:
        self.count = 0
        self.value = 0.0

    def add(self, value: float) -> None:
        self.count = min(self.count + 1, _MEMORY)
        self.value += (value - self.value) / self.count


@dataclass(slots=True)
class Slowdown:
    """How many times longer tasks take on one node than their stages do on average."""

    _weight: float = 0.0
    _sum: float = 0.0
    _squares: float = 0.0
    _seen_s: float = 0.0

    def observe(self, ratio: float, now_s: float) -> None:
        """Learn from a task that took ``ratio`` times its stage's average."""
        keep = self._decay(now_s) * min(1.0, (_MOST - 1) / max(self._weight, 1.0))
        self._weight = self._weight * keep + 1
        self._sum = self._sum * keep + ratio
        self._squares = self._squares * keep + ratio * ratio
        self._seen_s = now_s

    def value(self, now_s: float) -> float:
        """Return the factor; 1.0 while the difference is small, or may be chance."""
        weight = self._weight * self._decay(now_s)
        if weight < 2:
            return 1.0
        average = self._sum / self._weight
        # Shrunk towards 1, where only the evidence that is left counts.
        mean = (average * weight + _PRIOR) / (weight + _PRIOR)
        if 1 / _NOTABLE <= mean <= _NOTABLE:
            return 1.0
        # Few observations agree by chance: a scatter as large as the average itself is assumed
        # until there are enough to tell.
        measured = max(self._squares / self._weight - average**2, 0.0)
        variance = (measured * weight + _PRIOR) / (weight + _PRIOR)
        doubt = 2 * math.sqrt(variance / weight)
        is_certain = mean - doubt > _NOTABLE or mean + doubt < 1 / _NOTABLE
        return mean if is_certain else 1.0

    def _decay(self, now_s: float) -> float:
        # Evidence does not grow for whoever asks about an earlier time.
        age_s = max(0.0, now_s - self._seen_s)
        return float(0.5 ** (age_s / _HALF_LIFE_S)) if self._weight else 1.0
