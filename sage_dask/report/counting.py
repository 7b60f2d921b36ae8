"""What a job cost: a fold over its events, one by one as they come."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from sage_dask.breakdown import BreakdownBuilder
from sage_dask.endpoint.call_times import CallTimes
from sage_dask.endpoint.usage import Usage
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
from sage_dask.metrics import Latencies, LatencySummary
from sage_dask.record import StageTiming
from sage_dask.report.figures import Figures, NodeCost, StageCost
from sage_dask.report.text import lines
from sage_dask.sketch import Sketch


@dataclass(frozen=True, slots=True)
class Report(Figures):
    """One job, counted; its text is the table that people read."""

    @classmethod
    def from_events(cls, events: Iterable[Event]) -> Report:
        """Count a job from its events."""
        builder = ReportBuilder()
        for event in events:
            builder.add(event)
        return builder.report()

    def __str__(self) -> str:
        return "\n".join(lines(self))


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
    durations: Sketch = field(default_factory=Sketch)
    calls: CallTimes = field(default_factory=CallTimes)

    def add(self, timing: StageTiming) -> None:
        self.seconds += timing.seconds
        self.durations.add(timing.seconds)
        self.records_in += timing.records_in
        self.records_out += timing.records_out
        if timing.usage is not None:
            self.usage.add(timing.usage)
        if timing.calls is not None:
            self.calls.add(timing.calls)

    def cost(self) -> StageCost:
        return StageCost(
            self.seconds,
            self.records_in,
            self.records_out,
            replace(self.usage),
            self.durations.counts,
            replace(self.calls),
        )


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
        self._uncommitted: dict[int, BatchCommitted] = {}
        """Batches whose commit is yet to be told, with their latency so far."""
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
            self._forget_last_failures()
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
            self._uncommitted[event.batch] = event
        self._add_tasks(event)
        if event.tasks:
            self._nodes[event.tasks[-1].node][2] += event.num_written

    def _forget_last_failures(self) -> None:
        """Forget the words of failures of which none is left: they are to be tried again."""
        left = tuple(f"{kind}: " for kind, number in self._failures.items() if number > 0)
        kept = [(each, said) for each, said in self._last_failures if said.startswith(left)]
        self._last_failures.clear()
        self._last_failures.extend(kept)

    def _keep(self, event: BatchKept) -> None:
        """Count a batch's latency, now that it is whole."""
        batch = self._uncommitted.pop(event.batch, None)
        if batch is None:
            return
        self._latencies.add(batch.latency_s + event.commit_s, batch.num_written)
        self._breakdown.keep(event, batch.num_written)
        self._reach(batch.elapsed_s + event.commit_s)

    def _reach(self, elapsed_s: float) -> None:
        """Have the makespan last until a write; that a later batch was back need not be later."""
        self._makespan_s = max(self._makespan_s, self._before_s + elapsed_s)

    def _settle_uncommitted(self) -> None:
        """Count batches whose commit nobody told of: their start was killed just then."""
        for batch in self._uncommitted.values():
            self._latencies.add(batch.latency_s, batch.num_written)
        self._uncommitted.clear()

    def _add_tasks(self, event: BatchCommitted | BatchRemembered) -> None:
        self._reach(event.elapsed_s)
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
            started_at=start.started_at,
            num_threads=start.num_threads,
            policy=start.policy,
            command=start.command,
            versions=start.versions,
            num_read=self._counts["num_read"],
            num_written=self._counts["num_written"],
            num_failed=self._counts["num_failed"],
            num_filtered=self._counts["num_filtered"],
            num_expanded=self._counts["num_expanded"],
        )
