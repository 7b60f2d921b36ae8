"""The figures of a report that have one value each, with unit, digits and what is better."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from sage_dask.metrics import money
from sage_dask.report.figures import Figures


class Better(Enum):
    """Which of two values is better."""

    MORE = "more"
    LESS = "less"
    NEITHER = "neither"
    """It says what was done, not how well."""


@dataclass(frozen=True, slots=True)
class Measure:
    """One figure of a job."""

    name: str
    value: float
    """Not a number where it was not measured."""
    unit: str = ""
    digits: int = 0
    """Behind the point."""
    better: Better = Better.NEITHER
    is_headline: bool = False
    """Whether a summary speaks of it."""
    is_money: bool = False
    """Whether it is written as amounts of money are; differences have ``digits`` all the same."""

    @property
    def text(self) -> str | None:
        """The value without its unit; None where it was not measured."""
        return self.text_of(self.value)

    def text_of(self, value: float, *, sign: str = "") -> str | None:
        """Return another value as this one is written; None where it was not measured.

        Args:
            value: In the same unit.
            sign: ``"+"`` to write the sign of positive values, too.
        """
        if math.isnan(value):
            return None
        if self.is_money and not sign:
            return money(value)
        # "z": a difference that rounds to nothing has no sign.
        return f"{value:{sign}z,.{self.digits}f}"


def measures(figures: Figures) -> list[Measure]:
    """Return the figures of a job, in the order of a table."""
    return [*_records(figures), *_speed(figures), *_balance(figures), *_requests(figures)]


def _records(figures: Figures) -> Iterator[Measure]:
    yield Measure("records read", figures.num_read)
    yield Measure("records written", figures.num_written)
    yield Measure("records failed", figures.num_failed, better=Better.LESS)
    yield Measure("records filtered", figures.num_filtered)
    yield Measure("records gained by expansion", figures.num_expanded)
    came = figures.num_read + figures.num_expanded
    failed = 100 * figures.num_failed / came if came else math.nan
    yield Measure("share that failed", failed, "%", 2, Better.LESS, is_headline=True)


def _speed(figures: Figures) -> Iterator[Measure]:
    latency, breakdown = figures.latency, figures.breakdown
    makespan_s, throughput = math.nan, math.nan
    if figures.is_timed:
        makespan_s, throughput = figures.makespan_s, figures.throughput
    residue = 100 * breakdown.residue_share if breakdown.num_records else math.nan
    yield Measure("makespan", makespan_s, "s", 2)
    yield Measure("throughput", throughput, "records/s", 2, Better.MORE, is_headline=True)
    yield Measure("mean latency", 1000 * latency.mean_s, "ms", 2, Better.LESS, is_headline=True)
    yield Measure("P50 latency", 1000 * latency.p50_s, "ms", 2, Better.LESS)
    yield Measure("P99 latency", 1000 * latency.p99_s, "ms", 2, Better.LESS, is_headline=True)
    yield Measure("residue", residue, "% of the mean latency", 2)
    startup_s = sum(figures.startup_s.values()) if figures.startup_s else math.nan
    yield Measure("start-up", startup_s, "s, not in the makespan", 2, Better.LESS)


def _balance(figures: Figures) -> Iterator[Measure]:
    yield Measure("nodes", len(figures.nodes) or math.nan)
    of_records, of_busy_time = math.nan, math.nan
    if figures.is_timed:
        of_records, of_busy_time = figures.balance_of_records, figures.balance_of_busy_time
    yield Measure("balance of records", of_records, "", 3, Better.MORE)
    yield Measure("balance of busy time", of_busy_time, "", 3, Better.MORE)


def _requests(figures: Figures) -> Iterator[Measure]:
    """Yield what model servers were asked; nothing where none was."""
    usage = figures.usage
    if not usage:
        return
    yield Measure("requests", usage.requests)
    yield Measure("requests sent again", usage.retries, better=Better.LESS)
    yield Measure("answers from the cache", usage.cache_hits)
    yield Measure("prompt tokens", usage.prompt_tokens)
    yield Measure("prompt tokens cached by the server", usage.cached_tokens)
    yield Measure("completion tokens", usage.completion_tokens)
    tokens_per_s = figures.tokens_per_s if figures.is_timed else math.nan
    yield Measure("tokens per second", tokens_per_s, "", 1, Better.MORE)
    yield Measure(
        "cost", usage.cost or math.nan, "", 6, Better.LESS, is_headline=True, is_money=True
    )
