"""How far a job is, and who is told: counts, spendings, and notes of what holds it up."""

from __future__ import annotations

import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from sage_dask.endpoint.usage import Usage
from sage_dask.events import BatchCommitted
from sage_dask.report import Report, ReportBuilder


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


# What is counted of each batch.
_COUNTS = ("num_read", "num_written", "num_failed", "num_filtered")

Observer = Callable[[Progress], None]

# Counting everything takes as long as a small batch; more often than this nobody could look.
_COUNT_EVERY_S = 0.25


class Standing:
    """The progress of one job.

    One thread counts; notes may come from any.  The observer is called in the thread that
    brings the news, and never twice at once.

    Args:
        pipeline: Name of the pipeline.
        expected: Records the source says it has, where it knows.
        usage: What was spent; read whenever somebody is told.
        observer: Called with each change; None for nobody.
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
        builder: ReportBuilder | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._pipeline = pipeline
        self._expected = expected
        self._usage = usage
        self._observer = observer
        self._builder = builder
        self._report: Report | None = None
        self._latencies: Mapping[int, int] = {}
        self._counted_s = -math.inf
        self._clock = clock
        self._totals: Counter[str] = Counter()
        self._num_before = 0
        self._notes: dict[str, str] = {}
        # An observer may leave a note, too.
        self._lock = threading.RLock()
        self._started_s: float | None = None
        self._elapsed_s = 0.0
        """What the job took, once it is over."""

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
        """Tell of changes from now on."""
        with self._lock:
            self._started_s = now_s

    def stop(self) -> None:
        """Tell nobody any more."""
        with self._lock:
            if self._started_s is not None:
                self._elapsed_s = self._clock() - self._started_s
            self._started_s = None

    def conclude(self, report: Report) -> None:
        """Have the progress say from now on how the job ended."""
        with self._lock:
            self._counted_s = math.inf
            self._notes.clear()
            self._report = report
            self._latencies = {} if self._builder is None else self._builder.sketch.counts

    def count(self, event: BatchCommitted) -> None:
        """Count a batch that was written."""
        with self._lock:
            for name in _COUNTS:
                self._totals[name] += getattr(event, name)
            if self._observer is not None:
                self._look()
            self._tell(event.elapsed_s)

    def progress(self) -> Progress:
        """Return how far the job is; for the thread that counts."""
        with self._lock:
            self._look()
            if self._started_s is None:
                return self._progress(self._elapsed_s)
            return self._progress(self._clock() - self._started_s)

    def _look(self) -> None:
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
            if self._started_s is not None:
                self._tell(self._clock() - self._started_s)

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
        )

    def __repr__(self) -> str:
        return f"<Standing of {self._pipeline!r}: {self._totals['num_read']} done>"
