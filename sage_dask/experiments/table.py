"""The table of measurements: what was measured, beside what, and what is wanted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table."""

    what: str
    measured: str
    baseline: str
    ratio: float
    wanted: str

    def __str__(self) -> str:
        return (
            f"{self.what:<52} {self.measured:<36} {self.baseline:<30} {self.ratio:>6.2f}   "
            f"{self.wanted}"
        )


def in_turn(
    rounds: int, ours: Callable[[], float], plain: Callable[[], float]
) -> tuple[float, float]:
    """Return the medians of two measurements that were taken alternately."""
    pairs = [(ours(), plain()) for _ in range(rounds)]
    return median(pair[0] for pair in pairs), median(pair[1] for pair in pairs)


def header() -> str:
    """Return the table's first line."""
    return f"{'what':<52} {'measured':<36} {'beside it':<30} {'ratio':>6}   wanted"
