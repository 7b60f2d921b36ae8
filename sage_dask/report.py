"""What a job cost: a fold over its events, and the table that people read.

Throughput and latency follow one definition everywhere: records written over
the time from the first read to the last write, and per record the time from its
admission to its write.  Start-up stands on a row of its own.
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from sage_dask.breakdown import Breakdown, BreakdownBuilder
from sage_dask.endpoint.usage import Usage
from sage_dask.errors import AccountingError
from sage_dask.events import (
    BatchCommitted,
    BatchKept,
    BatchRemembered,
    Event,
    JobFinished,
    JobStarted,
    RecordsRefused,
    RecordsTakenBack,
)
from sage_dask.metrics import Latencies, LatencySummary, balance, duration, in_short, money
from sage_dask.record import StageTiming
from sage_dask.sketch import Sketch


@dataclass(frozen=True, slots=True)
class StageCost:
    """What one stage took over the whole job."""

    seconds: float
    records_in: int
    records_out: int
    usage: Usage = field(default_factory=Usage)
    """What its requests cost."""

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
class Report:
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

    @classmethod
    def from_events(cls, events: Iterable[Event]) -> Report:
        """Count a job from its events."""
        builder = ReportBuilder()
        for event in events:
            builder.add(event)
        return builder.report()

    @property
    def is_done(self) -> bool:
        """Whether the job read its whole input and wrote its whole output."""
        return self.outcome == "done"

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
        """Evenness of records over nodes; see :func:`sage_dask.metrics.balance`."""
        return balance([node.num_records for node in self.nodes.values()])

    @property
    def balance_of_busy_time(self) -> float:
        """Evenness of busy seconds over nodes."""
        return balance([node.busy_s for node in self.nodes.values()])

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
        """Return the report as plain values, for JSON."""
        plain = asdict(self)
        plain["throughput_per_s"] = self.throughput
        plain["usage"] = asdict(self.usage)
        plain["tokens_per_s"] = self.tokens_per_s
        plain["balance_of_records"] = self.balance_of_records
        plain["balance_of_busy_time"] = self.balance_of_busy_time
        return plain

    def __str__(self) -> str:
        return "\n".join(_lines(self))


# Failures that a report shows with their words; the failed file has all of them.
_LAST_FAILURES = 10

# What is counted of each batch.
_COUNTS = ("num_read", "num_written", "num_failed", "num_filtered", "num_expanded")


@dataclass(slots=True)
class _StageSums:
    """What a stage took so far."""

    seconds: float = 0.0
    records_in: int = 0
    records_out: int = 0
    usage: Usage = field(default_factory=Usage)

    def add(self, timing: StageTiming) -> None:
        self.seconds += timing.seconds
        self.records_in += timing.records_in
        self.records_out += timing.records_out
        if timing.usage is not None:
            self.usage.add(timing.usage)

    def cost(self) -> StageCost:
        return StageCost(self.seconds, self.records_in, self.records_out, replace(self.usage))


class ReportBuilder:
    """Counts events as they come; memory grows with batches by sixteen bytes each."""

    def __init__(self) -> None:
        self._start: JobStarted | None = None
        self._end = JobFinished("running")
        self._counts: Counter[str] = Counter()
        self._failures: Counter[str] = Counter()
        self._latencies = Latencies()
        self._breakdown = BreakdownBuilder()
        self._last_failures: deque[tuple[str, str]] = deque(maxlen=_LAST_FAILURES)
        self._uncommitted: dict[int, tuple[float, int]] = {}
        """Latency so far and records of batches whose commit is yet to be told."""
        self._num_starts = 0
        self._before_s = 0.0
        """Makespan of the starts before this one."""
        self._makespan_s = 0.0
        self._setup_s = 0.0
        self._stages: dict[str, _StageSums] = {}
        self._nodes: dict[str, list[float]] = defaultdict(lambda: [0, 0.0, 0])

    def add(self, event: Event) -> None:
        """Count one event."""
        if isinstance(event, JobStarted):
            self._start = event
            self._num_starts += 1
            self._before_s = self._makespan_s
            self._end = JobFinished("running")
            self._settle_uncommitted()
            self._breakdown.start(event)
            for stage in event.stages:
                self._stages.setdefault(stage, _StageSums())
            for node in event.nodes:
                self._nodes.setdefault(node, [0, 0.0, 0])
        elif isinstance(event, BatchCommitted):
            self._add_batch(event)
        elif isinstance(event, BatchKept):
            self._keep(event)
        elif isinstance(event, BatchRemembered):
            self._breakdown.remember(event)
            self._add_tasks(event)
        elif isinstance(event, RecordsTakenBack):
            for name in _COUNTS:
                self._counts[name] -= getattr(event, name)
            self._failures.subtract(event.failures)
        elif isinstance(event, RecordsRefused):
            self._counts["num_written"] -= event.num_refused
            self._counts["num_failed"] += event.num_refused
            self._failures.update(event.failures)
        elif isinstance(event, JobFinished):
            self._end = event

    def _add_batch(self, event: BatchCommitted) -> None:
        for name in _COUNTS:
            self._counts[name] += getattr(event, name)
        self._failures.update(event.failures)
        self._last_failures.extend(event.failed.items())
        self._breakdown.commit(event, event.num_written)
        if event.is_kept:
            self._latencies.add(event.latency_s, event.num_written)
        else:
            self._uncommitted[event.batch] = event.latency_s, event.num_written
        self._add_tasks(event)
        if event.tasks:
            self._nodes[event.tasks[-1].node][2] += event.num_written

    def _keep(self, event: BatchKept) -> None:
        """Count a batch's latency, now that it is whole."""
        latency_s, num_records = self._uncommitted.pop(event.batch, (0.0, 0))
        self._latencies.add(latency_s + event.commit_s, num_records)
        self._breakdown.keep(event, num_records)

    def _settle_uncommitted(self) -> None:
        """Count batches whose commit nobody told of: their start was killed just then."""
        for latency_s, num_records in self._uncommitted.values():
            self._latencies.add(latency_s, num_records)
        self._uncommitted.clear()

    def _add_tasks(self, event: BatchCommitted | BatchRemembered) -> None:
        self._makespan_s = self._before_s + event.elapsed_s
        for task in event.tasks:
            node = self._nodes[task.node]
            node[0] += 1
            node[1] += task.seconds
            self._setup_s += task.setup_seconds
            for timing in task.stages:
                self._stages.setdefault(timing.stage, _StageSums()).add(timing)

    @property
    def sketch(self) -> Sketch:
        """Records by latency, roughly."""
        return self._latencies.sketch

    def glance(self) -> Report:
        """Return what was counted so far, with percentiles to one per cent, at any time's cost."""
        return self._report(self._latencies.glance())

    def report(self) -> Report:
        """Return what was counted so far."""
        self._settle_uncommitted()
        return self._report(self._latencies.summary())

    def _report(self, latency: LatencySummary) -> Report:
        start = self._start or JobStarted("?", "?", "?", [], 0, {}, [], "")
        return Report(
            pipeline=start.pipeline,
            job=start.job,
            runner=start.runner,
            outcome=self._end.outcome,
            message=self._end.message,
            makespan_s=self._makespan_s,
            latency=latency,
            startup_s=start.startup_s,
            setup_s=self._setup_s,
            stages={name: sums.cost() for name, sums in self._stages.items()},
            nodes={name: NodeCost(int(t), s, int(r)) for name, (t, s, r) in self._nodes.items()},
            failures={kind: number for kind, number in self._failures.items() if number},
            num_starts=max(1, self._num_starts),
            breakdown=self._breakdown.breakdown(),
            last_failures=dict(self._last_failures),
            output=start.output,
            num_read=self._counts["num_read"],
            num_written=self._counts["num_written"],
            num_failed=self._counts["num_failed"],
            num_filtered=self._counts["num_filtered"],
            num_expanded=self._counts["num_expanded"],
        )


def _lines(report: Report) -> Iterable[str]:
    starts = f", start {report.num_starts}" if report.num_starts > 1 else ""
    yield f"pipeline {report.pipeline}, job {report.job}, {report.runner}{starts}: {report.outcome}"
    if report.message:
        yield f"  {report.message}"
    expanded = f"   expanded {report.num_expanded:,}" if report.num_expanded else ""
    yield (
        f"  records     in {report.num_read:,}   out {report.num_written:,}   "
        f"failed {report.num_failed:,}   filtered {report.num_filtered:,}{expanded}"
    )
    for kind, count in sorted(report.failures.items(), key=lambda item: -item[1])[:5]:
        yield f"  failed      {count:,} x {kind}"
    yield (
        f"  throughput  {report.throughput:,.1f} records/s over {duration(report.makespan_s)}"
        " (first read to last write)"
    )
    latency = report.latency
    yield (
        f"  latency     mean {duration(latency.mean_s)}   P50 {duration(latency.p50_s)}   "
        f"P99 {duration(latency.p99_s)}"
    )
    if report.nodes:
        yield (
            f"  balance     {report.balance_of_records:.3f} of records, "
            f"{report.balance_of_busy_time:.3f} of busy time, over "
            f"{len(report.nodes)} node{'' if len(report.nodes) == 1 else 's'}"
        )
    yield from _usage_lines(report)
    for what, seconds in report.startup_s.items():
        yield f"  start-up    {duration(seconds)} {what} (not in the figures above)"
    if report.setup_s:
        yield f"  set-up      {duration(report.setup_s)} on workers that joined during the run"
    yield from _stage_lines(report)
    if report.output:
        yield f"  output      {report.output}"


def _usage_lines(report: Report) -> Iterable[str]:
    usage = report.usage
    if usage.requests or usage.cache_hits:
        again = f", {usage.retries:,} again" if usage.retries else ""
        hits = f", {usage.cache_hits:,} from the cache" if usage.cache_hits else ""
        yield f"  requests    {usage.requests:,} sent{again}{hits}"
    if usage.tokens:
        share = usage.cached_tokens / usage.prompt_tokens if usage.prompt_tokens else 0.0
        cached = f" ({share:.0%} cached by the server)" if usage.cached_tokens else ""
        yield (
            f"  tokens      prompt {in_short(usage.prompt_tokens)}{cached}   "
            f"completion {in_short(usage.completion_tokens)}   {report.tokens_per_s:,.0f} tok/s"
        )
    if usage.cost:
        yield f"  cost        {money(usage.cost)}"


def _stage_lines(report: Report) -> Iterable[str]:
    total = sum(cost.seconds for cost in report.stages.values())
    width = max((len(name) for name in report.stages), default=0)
    for name, cost in report.stages.items():
        share = cost.seconds / total if total else 0.0
        yield (
            f"  stage       {name:<{width}}  {cost.ms_per_record:10.3f} ms/record  "
            f"{share:6.1%} of busy time   {cost.records_in:,} in, {cost.records_out:,} out"
            f"{_spent(cost.usage)}"
        )


def _spent(usage: Usage) -> str:
    """Return what a stage's requests took, in a few words; nothing where it sent none."""
    parts = [f"{in_short(usage.tokens)} tokens"] if usage.tokens else []
    parts += [f"cost {money(usage.cost)}"] if usage.cost else []
    return f"; {', '.join(parts)}" if parts else ""
