"""How far a job is, and who is told: counts, spendings, and notes of what holds it up."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from sage_dask.endpoint.usage import Usage
from sage_dask.events import BatchCommitted
from sage_dask.report import Report, ReportBuilder
from sage_dask.scheduling.gate import GateStatistics
from sage_dask.scheduling.servers import ServerStatistics

_log = logging.getLogger(__name__)

# The outcome of a job that has none yet.
RUNNING = "running"


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a job is."""

    pipeline: str
    num_read: int
    num_written: int
    num_failed: int
    num_filtered: int
    expected: int | None
    """Records the source says it has, where it knows."""
    elapsed_s: float
    num_before: int = 0
    """Records among ``num_read`` that earlier starts of the run were done with."""
    notes: tuple[str, ...] = ()
    """What holds it up, such as ``"http://gpu-0:8000/v1 is down for 12 s: paused"``."""
    tokens: int = 0
    """Spent by the batches that are back."""
    cost: float = 0.0
    """Of those tokens; 0.0 without prices."""
    report: Report | None = None
    """What is counted of it, as of a quarter of a second ago at most; None where nobody counts."""
    latencies: Mapping[int, int] = field(default_factory=dict)
    """Records by latency, as :class:`sage_dask.sketch.Sketch` counts them, as of then."""
    job: str = ""
    """Its id, which tells it from others of its pipeline."""
    gates: Mapping[str, GateStatistics] = field(default_factory=dict)
    """Those that it holds slots of, as the scheduler told within the last second; with what other
    jobs hold."""
    servers: Mapping[str, ServerStatistics] = field(default_factory=dict)
    """Those that it asks, by endpoint, likewise."""

    @property
    def outcome(self) -> str:
        """``"running"``, or what the job ended with."""
        return RUNNING if self.report is None else self.report.outcome


# Gates and servers change all the time.
_SHOW_EVERY_S = 0.25

# What is counted of each batch.
_COUNTS = ("num_read", "num_written", "num_failed", "num_filtered")

Observer = Callable[[Progress], None]

# Counting everything takes as long as a small batch; more often than this nobody could look.
_COUNT_EVERY_S = 0.25


class Standing:
    """The progress of one job.

    One thread counts; notes may come from any.  The observer is called in the thread that
    brings the news, and never twice at once: from the start to the end, each of them included.

    Args:
        pipeline: Name of the pipeline.
        expected: Records the source says it has, where it knows.
        usage: What was spent; read whenever somebody is told.
        observer: Called with each change; None for nobody.
        job: Id of the job.
        builder: Counts the job's events, in the thread that counts here.
        clock: Seconds; only differences count.
    """

    def __init__(
        self,
        pipeline: str,
        expected: int | None,
        usage: Usage,
        observer: Observer | None = None,
        *,
        job: str = "",
        builder: ReportBuilder | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._pipeline = pipeline
        self._expected = expected
        self._usage = usage
        self._observer = observer
        self._job = job
        self._builder = builder
        self._report: Report | None = None
        self._latencies: Mapping[int, int] = {}
        self._counted_s = -math.inf
        self._clock = clock
        self._totals: Counter[str] = Counter()
        self._num_before = 0
        self._notes: dict[str, str] = {}
        self._gates: Mapping[str, GateStatistics] = {}
        self._servers: Mapping[str, ServerStatistics] = {}
        self._shown_s = -math.inf
        # An observer may leave a note, too.
        self._lock = threading.RLock()
        self._started_s: float | None = None
        self._ended_s: float | None = None

    @property
    def num_read(self) -> int:
        """Records whose batches are settled."""
        return self._totals["num_read"]

    @property
    def num_failed(self) -> int:
        """Records that failed."""
        return self._totals["num_failed"]

    def recall(self, before: Report) -> None:
        """Count what earlier starts of the run did; they took no time of this one."""
        with self._lock:
            for name in _COUNTS:
                self._totals[name] += getattr(before, name)
            self._num_before = before.num_read

    def start(self, now_s: float) -> None:
        """Tell how it begins, and of changes from now on."""
        with self._lock:
            self._started_s = now_s
            self._look()
            self._tell(0.0)

    def end(self, report: Report) -> None:
        """Tell how the job ended, and nobody any more; what is over is not undone by an observer.

        Args:
            report: What the progress shows from now on, with the outcome.
        """
        with self._lock:
            if self._ended_s is not None:
                return
            is_live, self._ended_s = self._is_live, self._clock()
            self._counted_s = math.inf
            self._report = report
            self._latencies = {} if self._builder is None else self._builder.sketch.counts
            # What held it up does so no more.
            self._notes.clear()
            try:
                if is_live:
                    self._tell(self._elapsed_s)
            except Exception:
                _log.warning("the observer of %r failed at its end", self._pipeline, exc_info=True)

    def count(self, event: BatchCommitted) -> None:
        """Count a batch that was written."""
        with self._lock:
            for name in _COUNTS:
                self._totals[name] += getattr(event, name)
            self._look()
            self._tell(event.elapsed_s)

    def progress(self) -> Progress:
        """Return how far the job is; for the thread that counts."""
        with self._lock:
            self._look_anyway()
            return self._progress(self._elapsed_s)

    @property
    def _is_live(self) -> bool:
        return self._started_s is not None and self._ended_s is None

    @property
    def _elapsed_s(self) -> float:
        """Seconds from the start to now, or to the end."""
        if self._started_s is None:
            return 0.0
        return (self._clock() if self._ended_s is None else self._ended_s) - self._started_s

    def _look(self) -> None:
        """Count everything for the observer, where there is one."""
        if self._observer is not None:
            self._look_anyway()

    def _look_anyway(self) -> None:
        """Count everything, unless that was done just now."""
        now_s = self._clock()
        if self._builder is not None and now_s >= self._counted_s + _COUNT_EVERY_S:
            self._counted_s = now_s
            self._report = self._builder.glance()
            self._latencies = self._builder.sketch.counts

    def refuse(self, number: int) -> None:
        """Count records that were written, and have no form in the output after all."""
        with self._lock:
            self._totals["num_written"] -= number
            self._totals["num_failed"] += number

    def note(self, source: str, text: str | None) -> None:
        """Show a short note until it is replaced or cleared.

        Args:
            source: Whose note it is, such as a model server's address; each has one.
            text: What to show; None clears it.
        """
        with self._lock:
            if self._notes.get(source) == text:
                return
            if text is None:
                del self._notes[source]
            else:
                self._notes[source] = text
            if self._is_live:
                self._tell(self._elapsed_s)

    def show_load(
        self, gates: Mapping[str, GateStatistics], servers: Mapping[str, ServerStatistics]
    ) -> None:
        """Show how full its gates and model servers are; not more often than people can look."""
        with self._lock:
            is_news = (gates, servers) != (self._gates, self._servers)
            self._gates, self._servers = gates, servers
            now_s = self._clock()
            if is_news and self._is_live and now_s >= self._shown_s + _SHOW_EVERY_S:
                self._shown_s = now_s
                self._tell(self._elapsed_s)

    def _tell(self, elapsed_s: float) -> None:
        if self._observer is not None:
            self._observer(self._progress(elapsed_s))

    def _progress(self, elapsed_s: float) -> Progress:
        return Progress(
            self._pipeline,
            num_read=self._totals["num_read"],
            num_written=self._totals["num_written"],
            num_failed=self._totals["num_failed"],
            num_filtered=self._totals["num_filtered"],
            expected=self._expected,
            elapsed_s=elapsed_s,
            num_before=self._num_before,
            notes=tuple(self._notes[source] for source in sorted(self._notes)),
            tokens=self._usage.tokens,
            cost=self._usage.cost,
            report=self._report,
            latencies=self._latencies,
            job=self._job,
            gates=self._gates,
            servers=self._servers,
        )

    def __repr__(self) -> str:
        return f"<Standing of {self._pipeline!r}: {self._totals['num_read']} done>"
