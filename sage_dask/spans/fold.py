"""Spans as a fold over the events of a run: a trace per start, in it a span per batch.

Identities follow from the job's id and the place in the trace, so that exporting a
run twice makes the same spans.  Memory holds the batches that are under way.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import blake2b

from sage_dask.breakdown import Breakdown, BreakdownBuilder
from sage_dask.events import (
    BUDGET,
    BatchCommitted,
    BatchFormed,
    BatchKept,
    BatchRemembered,
    Event,
    JobFinished,
    JobStarted,
)
from sage_dask.record import TaskTiming
from sage_dask.spans.layout import Attribute, pieces

# Of the outcomes of a job, those that are no error; a run that goes on has none yet.
_FINE = ("done", BUDGET, "")

_NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Span:
    """What OpenTelemetry wants to know of one stretch of time."""

    trace_id: int
    """Of 128 bits; never 0."""
    span_id: int
    """Of 64 bits; never 0."""
    parent_id: int | None
    name: str
    start_ns: int
    """Since 1970, by the clock of the driver's machine."""
    end_ns: int
    attributes: Mapping[str, Attribute] = field(default_factory=dict)
    error: str | None = None
    """What went wrong; None where nothing did."""


def spans_of(events: Iterable[Event], *, every: int = 1) -> Iterator[Span]:
    """Yield the spans of a run's events, children before their parents.

    Args:
        events: Of all starts, in their order.
        every: Batches whose number is a multiple of it are told; the spans of jobs always are.
    """
    start: _Start | None = None
    for event in events:
        if isinstance(event, JobStarted):
            if start is not None:
                yield from start.end("", "")
            start = _Start(event)
        elif start is not None and isinstance(event, JobFinished):
            yield from start.end(event.outcome, event.message)
            start = None
        elif start is not None:
            yield from start.add(event, every)
    if start is not None:
        yield from start.end("", "")


class _Start:
    """One start of a run, and its batches that are under way."""

    def __init__(self, event: JobStarted) -> None:
        self._event = event
        self._began_ns = round(datetime.fromisoformat(event.started_at).timestamp()) * _NS
        self._trace_id = _identity(event.job, 16)
        self._root_id = _identity(f"{event.job}/", 8)
        self._formed: dict[int, BatchFormed] = {}
        self._tasks: defaultdict[int, list[TaskTiming]] = defaultdict(list)
        """Of batches that were remembered."""
        self._uncommitted: dict[int, BatchCommitted] = {}
        self._latest_s = 0.0

    def add(self, event: Event, every: int) -> Iterator[Span]:
        """Yield the spans that are whole with an event."""
        if isinstance(event, BatchFormed | BatchRemembered | BatchCommitted):
            self._latest_s = max(self._latest_s, event.elapsed_s)
        elif not isinstance(event, BatchKept):
            return
        if event.batch % every:
            return
        if isinstance(event, BatchFormed):
            self._formed[event.batch] = event
        elif isinstance(event, BatchRemembered):
            self._tasks[event.batch] += event.tasks
        elif isinstance(event, BatchKept):
            if (committed := self._uncommitted.pop(event.batch, None)) is not None:
                self._latest_s = max(self._latest_s, committed.elapsed_s + event.commit_s)
                yield from self._done(committed, event)
        elif event.is_kept:
            yield from self._done(event, None)
        else:
            self._uncommitted[event.batch] = event

    def end(self, outcome: str, message: str) -> Iterator[Span]:
        """Yield the spans of what is left, and of the job."""
        for committed in list(self._uncommitted.values()):
            yield from self._done(committed, None)
        for formed in self._formed.values():
            attributes = {**_of_batch(formed.batch), "sage_dask.records.read": len(formed.ids)}
            told = "not back when its start ended, or by the latest event"
            yield self._span(
                (str(formed.batch),), "batch", formed.elapsed_s, self._latest_s, attributes, told
            )
        job = self._event
        attributes = {
            "sage_dask.pipeline": job.pipeline,
            "sage_dask.job": job.job,
            "sage_dask.runner": job.runner,
            "sage_dask.nodes": list(job.nodes),
            "sage_dask.threads": job.num_threads,
            "sage_dask.outcome": outcome or "unfinished",
        }
        attributes |= {f"sage_dask.startup_s.{what}": s for what, s in job.startup_s.items()}
        error = None
        if outcome not in _FINE:
            attributes["error.type"] = outcome
            error = message
        yield self._span((), f"job {job.pipeline}", 0.0, self._latest_s, attributes, error)

    def _done(self, event: BatchCommitted, kept: BatchKept | None) -> Iterator[Span]:
        """Yield the spans of a batch that is done."""
        tasks = [*self._tasks.pop(event.batch, ()), *event.tasks]
        self._formed.pop(event.batch, None)
        breakdown = _breakdown(self._event, event, tasks, kept)
        latency_s = event.latency_s + (0.0 if kept is None else kept.commit_s)
        admitted_s = event.elapsed_s - event.latency_s
        batch = str(event.batch)
        for piece in pieces(event.spent, tasks, latency_s, breakdown):
            yield self._span(
                (batch, *piece.path),
                piece.name,
                admitted_s + piece.start_s,
                admitted_s + piece.end_s,
                piece.attributes,
            )
        attributes = {
            **_of_batch(event.batch),
            "sage_dask.records.read": event.num_read,
            "sage_dask.records.written": event.num_written,
            "sage_dask.records.failed": event.num_failed,
            "sage_dask.records.filtered": event.num_filtered,
            "sage_dask.records.expanded": event.num_expanded,
        }
        if event.failures:
            attributes["sage_dask.failures"] = sorted(event.failures)
        yield self._span((batch,), "batch", admitted_s, admitted_s + latency_s, attributes)

    def _span(
        self,
        path: Sequence[str],
        name: str,
        start_s: float,
        end_s: float,
        attributes: Mapping[str, Attribute],
        error: str | None = None,
    ) -> Span:
        """Return a span of this start's trace; times from its first read."""
        return Span(
            self._trace_id,
            self._id(path),
            self._id(path[:-1]) if path else None,
            name,
            self._began_ns + round(start_s * _NS),
            self._began_ns + round(end_s * _NS),
            attributes,
            error,
        )

    def _id(self, path: Sequence[str]) -> int:
        return _identity("/".join([self._event.job, *path]), 8) if path else self._root_id


def _breakdown(
    job: JobStarted, event: BatchCommitted, tasks: Sequence[TaskTiming], kept: BatchKept | None
) -> Breakdown:
    """Return the parts of one batch's latency."""
    builder = BreakdownBuilder()
    builder.start(job)
    # As one record that was written, so that parts are the batch's own.
    builder.remember(BatchRemembered(event.batch, 0.0, tasks[: len(tasks) - len(event.tasks)]))
    builder.commit(event, 1)
    if kept is not None:
        builder.keep(kept, 1)
    return builder.breakdown()


def _of_batch(batch: int) -> dict[str, Attribute]:
    return {"sage_dask.batch": batch}


def _identity(text: str, num_bytes: int) -> int:
    """Return a number that follows from a text, and is not 0, which stands for none."""
    digest = blake2b(text.encode(), digest_size=num_bytes, person=b"sage_dask").digest()
    return int.from_bytes(digest) or 1
