"""The life of one record as a fold over the events of its run, in one pass.

Memory holds what is known of this record, the counts of the report, and nothing
that grows with the ids of a run.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from sage_dask.breakdown import BreakdownBuilder
from sage_dask.events import (
    BatchCommitted,
    BatchFormed,
    BatchKept,
    BatchRemembered,
    Event,
    JobFinished,
    JobStarted,
)
from sage_dask.journal.rows import Row
from sage_dask.life.facts import (
    BEGUN,
    CUT_OFF,
    DROPPED,
    FAILED,
    WRITTEN,
    Fate,
    Life,
    Passage,
    Rank,
    Remembered,
)
from sage_dask.metrics import LatencySummary
from sage_dask.record import TaskTiming
from sage_dask.report import ReportBuilder

# What the driver says of a row whose id was read before; the first row of the id goes on.
_DUPLICATE = "read: DuplicateIdError:"


def possible_roots(asked: str) -> tuple[str, ...]:
    """Return an id, and the ids of records that it may be a part of, the nearest first.

    Expansions call the parts of ``a`` ``a/0``, ``a/1`` and so on; sources may use slashes, too.

    >>> possible_roots("b/a/0/12")
    ('b/a/0/12', 'b/a/0', 'b/a')
    """
    roots = [asked]
    while (parted := roots[-1].rpartition("/"))[1] and parted[2].isdecimal():
        roots.append(parted[0])
    return tuple(roots)


@dataclass(slots=True)
class _Watched:
    """A batch that the record is in, until no more is to come of it."""

    passage: Passage
    builder: BreakdownBuilder
    tasks: list[TaskTiming] = field(default_factory=list)
    task_names: list[str] = field(default_factory=list)
    """Of its tasks that are not known to be done."""


class LifeBuilder:
    """Follows one record through events.

    Args:
        asked: Its id, or that of something it became.
    """

    def __init__(self, asked: str) -> None:
        self._asked = asked
        self._roots = possible_roots(asked)
        self._wanted = frozenset(self._roots)
        self._counts = ReportBuilder()
        self._start = JobStarted("?", "?", "?", [], 0, {}, [], "")
        self._num_starts = 0
        self._news_s = 0.0
        self._tells_ids = False
        self._watched: defaultdict[str, dict[int, _Watched]] = defaultdict(dict)
        """By id and batch, of this start."""
        self._passages: defaultdict[str, list[Passage]] = defaultdict(list)
        """By id: those of which no more is to come."""
        self._refusals: defaultdict[str, list[str]] = defaultdict(list)

    def add(self, event: Event) -> None:
        """Follow one event."""
        self._counts.add(event)
        if isinstance(event, JobStarted):
            self._end_start("")
            self._start = event
            self._num_starts += 1
            self._news_s = 0.0
        elif isinstance(event, BatchFormed):
            self._form(event)
        elif isinstance(event, BatchRemembered):
            self._remember(event)
        elif isinstance(event, BatchCommitted):
            self._commit(event)
        elif isinstance(event, BatchKept):
            self._keep(event)
        elif isinstance(event, JobFinished):
            self._end_start(event.outcome)

    def life(self, rows: Mapping[str, Row] | None = None) -> Life:
        """Return what is known.

        Args:
            rows: Of the journal, by id, as far as they are of ``possible_roots``; None where
                the run has no journal.
        """
        record = next((root for root in self._roots if self._is_known(root, rows)), self._asked)
        passages = (*self._passages[record], *self._under_way(record))
        report = self._counts.report()
        known = (rows or {}).get(record)
        return Life(
            self._asked,
            record,
            report.pipeline,
            report.outcome,
            report.output,
            passages,
            tuple(self._refusals[record]),
            rank=self._rank(passages, report.latency),
            fate=None if known is None else Fate.of(known),
            has_journal=rows is not None,
            tells_ids=self._tells_ids,
            num_read=report.num_read,
        )

    def _is_known(self, root: str, rows: Mapping[str, Row] | None) -> bool:
        is_told = self._passages[root] or self._watched[root] or self._refusals[root]
        return bool(is_told or (rows and root in rows))

    def _form(self, event: BatchFormed) -> None:
        self._tells_ids = True
        self._news_s = event.elapsed_s
        for root in self._wanted.intersection(event.ids):
            passage = Passage(
                self._num_starts,
                self._start.job,
                self._start.started_at,
                event.batch,
                len(event.ids),
                event.elapsed_s,
                BEGUN,
            )
            builder = BreakdownBuilder()
            builder.start(self._start)
            names = list(self._start.task_names)
            self._watched[root][event.batch] = _Watched(passage, builder, task_names=names)

    def _of_batch(self, batch: int) -> Iterable[tuple[str, _Watched]]:
        found = [(root, batches.get(batch)) for root, batches in self._watched.items()]
        return [(root, watched) for root, watched in found if watched is not None]

    def _remember(self, event: BatchRemembered) -> None:
        self._news_s = event.elapsed_s
        for _, watched in self._of_batch(event.batch):
            watched.builder.remember(event)
            watched.tasks += event.tasks
            done = {task.task for task in event.tasks}
            watched.task_names = [name for name in watched.task_names if name not in done]
            stages = event.tasks[-1].stages if event.tasks else ()
            if stages:
                remembered = Remembered(stages[-1].stage, event.elapsed_s)
                passage = watched.passage
                watched.passage = replace(passage, remembered=(*passage.remembered, remembered))

    def _commit(self, event: BatchCommitted) -> None:
        self._news_s = event.elapsed_s
        for root in self._wanted.intersection(event.failed):
            failure = event.failed[root]
            if event.batch not in self._watched[root] or failure.startswith(_DUPLICATE):
                self._refusals[root].append(failure)
        for root, watched in self._of_batch(event.batch):
            # Counted as one record that was written, whatever came of it: it went the same way.
            watched.builder.commit(event, 1)
            watched.tasks += event.tasks
            end, failure = _end_of(root, event)
            watched.passage = replace(
                watched.passage,
                end=end,
                failure=failure,
                is_partial=event.num_expanded > 0,
                done_s=event.elapsed_s,
                latency_s=event.latency_s,
            )
            if event.is_kept:
                self._close(root, event.batch)

    def _keep(self, event: BatchKept) -> None:
        for root, watched in self._of_batch(event.batch):
            passage = watched.passage
            if passage.done_s is None or passage.latency_s is None:
                continue
            watched.builder.keep(event, 1)
            watched.passage = replace(
                passage,
                done_s=passage.done_s + event.commit_s,
                latency_s=passage.latency_s + event.commit_s,
            )
            self._close(root, event.batch)

    def _close(self, root: str, batch: int) -> None:
        """Be done with a batch."""
        self._passages[root].append(_whole(self._watched[root].pop(batch), self._news_s))

    def _end_start(self, outcome: str) -> None:
        """Be done with all batches of a start; those that are not back are cut off."""
        for root, batches in self._watched.items():
            for watched in batches.values():
                passage = _whole(watched, self._news_s)
                if passage.end == BEGUN:
                    passage = replace(passage, end=CUT_OFF, stopped_by=outcome)
                self._passages[root].append(passage)
            batches.clear()

    def _under_way(self, root: str) -> Iterable[Passage]:
        """Yield the passages that are not over as far as the events go, with their keys."""
        for watched in self._watched[root].values():
            passage = _whole(watched, self._news_s)
            if passage.end == BEGUN:
                keys = [
                    str((f"{name}-{passage.job}", passage.batch)) for name in watched.task_names
                ]
                passage = replace(passage, keys=tuple(keys))
            yield passage

    def _rank(self, passages: tuple[Passage, ...], run: LatencySummary) -> Rank | None:
        last = passages[-1] if passages else None
        if last is None or last.end != WRITTEN or last.latency_s is None:
            return None
        share_below = self._counts.sketch.share_below(last.latency_s)
        return Rank(share_below, run.p50_s, run.num_records)


def _end_of(root: str, event: BatchCommitted) -> tuple[str, str]:
    """Return how a batch ended for one of its records, and with which failure."""
    failure = event.failed.get(root, "")
    if failure and not failure.startswith(_DUPLICATE):
        return FAILED, failure
    return (DROPPED if root in event.filtered else WRITTEN), ""


def _whole(watched: _Watched, news_s: float) -> Passage:
    """Return a passage with what was measured of it."""
    return replace(
        watched.passage,
        breakdown=watched.builder.breakdown(),
        tasks=tuple(watched.tasks),
        news_s=news_s,
    )
