"""The figures of one job, and what follows from them.

Throughput and latency follow one definition everywhere: records written over
the time from the first read to the last write, and per record the time from its
admission to its write.  Start-up stands on a row of its own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from sage_dask.breakdown import Breakdown
from sage_dask.endpoint.call_times import CallTimes
from sage_dask.endpoint.usage import Usage
from sage_dask.errors import AccountingError
from sage_dask.metrics import LatencySummary, balance, without_nan
from sage_dask.report.categories import categories


@dataclass(frozen=True, slots=True)
class StageCost:
    """What one stage took over the whole job."""

    seconds: float
    records_in: int
    records_out: int
    usage: Usage = field(default_factory=Usage)
    """What its requests cost."""
    durations: Mapping[int, int] = field(default_factory=dict)
    """Batches by what the stage took for each of them, as :class:`sage_dask.sketch.Sketch` counts;
    together they took ``seconds``."""
    calls: CallTimes = field(default_factory=CallTimes)
    """Where the time of its calls to model servers went."""

    @property
    def ms_per_record(self) -> float:
        """Busy milliseconds per record that entered the stage."""
        return 1000 * self.seconds / self.records_in if self.records_in else 0.0


@dataclass(frozen=True, slots=True)
class NodeCost:
    """What one node did."""

    num_tasks: int = 0
    busy_s: float = 0.0
    num_records: int = 0
    """Records whose last task ran here."""


@dataclass(frozen=True, slots=True)
class Figures:
    """One job, counted."""

    pipeline: str
    job: str
    runner: str
    outcome: str
    message: str
    num_read: int
    num_written: int
    num_failed: int
    num_filtered: int
    num_expanded: int
    makespan_s: float
    """From the first read to the last write, summed over the starts of the run."""
    latency: LatencySummary
    startup_s: Mapping[str, float]
    setup_s: float
    """Set-up that fell inside the makespan, on workers that joined late; summed over tasks."""
    stages: Mapping[str, StageCost]
    nodes: Mapping[str, NodeCost]
    failures: Mapping[str, int] = field(default_factory=dict)
    output: str = ""
    num_starts: int = 1
    """How often the run was started until it was as it is."""
    breakdown: Breakdown = field(default_factory=Breakdown)
    """Where the latency went."""
    last_failures: Mapping[str, str] = field(default_factory=dict)
    """Of the latest records that failed, the latest last: what happened, by id."""
    started_at: str = ""
    """Wall-clock time of the last start."""
    num_threads: int = 0
    """Tasks that could run at once."""
    policy: str = ""
    """Which the run asked for; empty where it took the one that its cluster had."""
    command: str = ""
    """What was typed; empty where a program ran it, or an older version."""
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_done(self) -> bool:
        """Whether the job read its whole input and wrote its whole output."""
        return self.outcome == "done"

    @property
    def is_timed(self) -> bool:
        """Whether there is a time to divide by: a batch was done."""
        return self.makespan_s > 0

    @property
    def throughput(self) -> float:
        """Records written per second of makespan."""
        return self.num_written / self.makespan_s if self.makespan_s else 0.0

    @property
    def usage(self) -> Usage:
        """What the requests of all stages cost."""
        total = Usage()
        for stage in self.stages.values():
            total.add(stage.usage)
        return total

    @property
    def tokens_per_s(self) -> float:
        """Tokens in both directions per second of makespan."""
        return self.usage.tokens / self.makespan_s if self.makespan_s else 0.0

    @property
    def balance_of_records(self) -> float:
        """Evenness of records over nodes; see :func:`sage_dask.metrics.balance`.

        Not a number where no node is known.
        """
        amounts = [node.num_records for node in self.nodes.values()]
        return balance(amounts) if amounts else math.nan

    @property
    def balance_of_busy_time(self) -> float:
        """Evenness of busy seconds over nodes; not a number where no node is known."""
        amounts = [node.busy_s for node in self.nodes.values()]
        return balance(amounts) if amounts else math.nan

    def check_account(self) -> None:
        """Raise ``AccountingError`` unless every record that was read is accounted for."""
        came = self.num_read + self.num_expanded
        went = self.num_written + self.num_failed + self.num_filtered
        if came != went:
            raise AccountingError(
                f"job {self.job!r}: read {self.num_read} + expanded {self.num_expanded} = {came}, "
                f"but written {self.num_written} + failed {self.num_failed} + filtered "
                f"{self.num_filtered} = {went}; this is a defect of sage_dask, please report it"
            )

    def as_dict(self) -> dict[str, Any]:
        """Return the report as plain values, for JSON; what was not measured is None.

        The keys are the fields of this class and of those it holds, sketches apart, and besides
        ``throughput_per_s``, ``tokens_per_s``, ``usage`` (the sum of all stages),
        ``balance_of_records`` and ``balance_of_busy_time``.  ``breakdown`` has ``residue_s``,
        ``residue_share`` and ``categories`` (seconds per record by the names in
        :mod:`sage_dask.report.categories`), too, or is None as a whole.
        """
        plain = asdict(self)
        for stage in plain["stages"].values():
            # A sketch is for those who draw it, and its buckets mean nothing to others.
            del stage["durations"]
        plain["throughput_per_s"] = self.throughput if self.is_timed else None
        plain["usage"] = asdict(self.usage)
        plain["tokens_per_s"] = self.tokens_per_s if self.is_timed else None
        plain["balance_of_records"] = self.balance_of_records if self.is_timed else None
        plain["balance_of_busy_time"] = self.balance_of_busy_time if self.is_timed else None
        plain["breakdown"] = _breakdown(self.breakdown)
        return dict(without_nan(plain))


def _breakdown(breakdown: Breakdown) -> dict[str, Any] | None:
    """Return a breakdown as plain values; None where there is none."""
    if not breakdown.num_records:
        return None
    plain = asdict(breakdown)
    plain["residue_s"] = breakdown.residue_s
    plain["residue_share"] = breakdown.residue_share
    plain["categories"] = categories(breakdown)
    return plain
