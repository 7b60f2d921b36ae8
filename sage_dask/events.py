"""What happened in a run: the one schema of its events, each of which is a line of JSON.

The report is a fold over these events and nothing else, so a run can be scored
again from its file.  Durations come from one process's clock; clocks of two
hosts are never subtracted.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, TypeAlias, get_args

from sage_dask.endpoint.call_times import CallTimes
from sage_dask.endpoint.usage import Usage
from sage_dask.record import StageTiming, TaskTiming


@dataclass(frozen=True, slots=True)
class JobStarted:
    """A job is about to read its first record."""

    kind: ClassVar[str] = "job_started"
    pipeline: str
    job: str
    runner: str
    nodes: Sequence[str]
    num_threads: int
    startup_s: Mapping[str, float]
    """Seconds spent before the first record, by what they went into."""
    stages: Sequence[str]
    started_at: str
    """Wall-clock time, ISO 8601 with offset; for people, never for durations."""
    versions: Mapping[str, str] = field(default_factory=dict)
    output: str = ""
    policy: str = ""
    """Which the run asks for; empty for the one that its cluster has."""
    command: str = ""
    """What was typed; empty where a program runs it, or nothing is kept of that."""
    task_names: Sequence[str] = field(default_factory=list)
    """Of the tasks that a batch passes on a cluster, in order; the keys of its tasks begin with
    them.  Empty in one process, which has no keys."""


@dataclass(frozen=True, slots=True)
class BatchFormed:
    """Records were read and set out together."""

    kind: ClassVar[str] = "batch_formed"
    batch: int
    elapsed_s: float
    """From the job's first read to here."""
    ids: Sequence[str]
    """Of the records, as they were read."""


@dataclass(frozen=True, slots=True)
class BatchCommitted:
    """A batch and its failures were written."""

    kind: ClassVar[str] = "batch_committed"
    batch: int
    num_read: int
    num_written: int
    num_failed: int
    num_filtered: int
    num_expanded: int
    latency_s: float
    """From the batch's admission to its write; every record of it has this latency."""
    elapsed_s: float
    """From the job's first read to this write."""
    tasks: Sequence[TaskTiming]
    failures: Mapping[str, int]
    """Number of failures by ``"stage: error class"``."""
    spent: Mapping[str, float] = field(default_factory=dict)
    """What the latency was spent on, by the driver's names in ``spent``; adds up to it."""
    failed: Mapping[str, str] = field(default_factory=dict)
    """By id, as far as records that failed have one: ``"stage: error class: message"``, cut."""
    filtered: Sequence[str] = field(default_factory=list)
    """Ids of the records that were dropped."""
    is_kept: bool = True
    """Whether it was written; False where ``BatchKept`` tells later how long that took."""


@dataclass(frozen=True, slots=True)
class BatchKept:
    """The event of a batch was committed to the journal, and with it the batch."""

    kind: ClassVar[str] = "batch_kept"
    batch: int
    commit_s: float
    """From handing it to the journal until it was safe there; adds to the batch's latency."""


@dataclass(frozen=True, slots=True)
class BatchRemembered:
    """What a batch has after a costly stage was kept; its later stages are to come."""

    kind: ClassVar[str] = "batch_remembered"
    batch: int
    elapsed_s: float
    """From the job's first read to this write."""
    tasks: Sequence[TaskTiming]
    """Those since the batch was read, or remembered before."""


@dataclass(frozen=True, slots=True)
class RecordsTakenBack:
    """Records that were done are no longer: they failed, and are to be tried again."""

    kind: ClassVar[str] = "records_taken_back"
    num_read: int
    num_written: int
    num_failed: int
    num_filtered: int
    num_expanded: int
    failures: Mapping[str, int]
    """Number of failures by ``"stage: error class"``."""


@dataclass(frozen=True, slots=True)
class RecordsRefused:
    """Records that were done have no form in the output, and failed after all."""

    kind: ClassVar[str] = "records_refused"
    num_refused: int
    failures: Mapping[str, int]


# The outcome of a job that stopped because it had spent what it might.
BUDGET = "budget reached"


@dataclass(frozen=True, slots=True)
class JobFinished:
    """A job ended."""

    kind: ClassVar[str] = "job_finished"
    outcome: str
    """``"done"``, ``"budget reached"``, or the class of the error that stopped it."""
    message: str = ""


Event: TypeAlias = (
    JobStarted
    | BatchFormed
    | BatchCommitted
    | BatchKept
    | BatchRemembered
    | RecordsTakenBack
    | RecordsRefused
    | JobFinished
)

# Left out of lines where they are so.
_USUAL = {
    "spent": {},
    "failed": {},
    "filtered": [],
    "is_kept": True,
    "task_names": [],
    "policy": "",
    "command": "",
}

_KINDS: dict[str, type[Any]] = {kind.kind: kind for kind in get_args(Event)}


def event_line(event: Event) -> bytes:
    """Return an event as a line of JSON, without its end; ``parse_event`` is the way back."""
    return json.dumps(_row(event), separators=(",", ":")).encode()


def _row(event: Event) -> dict[str, Any]:
    """Return an event as what JSON takes."""
    row = {"kind": event.kind} | {each.name: getattr(event, each.name) for each in fields(event)}
    if isinstance(event, BatchCommitted | BatchRemembered):
        row["tasks"] = [_task_row(task) for task in event.tasks]
    for name, usual in _USUAL.items():
        if name in row and row[name] == usual:
            del row[name]
    return row


def parse_event(line: bytes) -> Event:
    """Return the event of a line.

    Raises:
        ValueError, KeyError, TypeError: It is none.
    """
    row = json.loads(line)
    kind = _KINDS[row.pop("kind")]
    if kind in (BatchCommitted, BatchRemembered):
        row["tasks"] = [_task_timing(*task) for task in row["tasks"]]
    event: Event = kind(**row)
    return event


def _task_row(task: TaskTiming) -> Sequence[Any]:
    """Return a timing as a list; without waits it is what it was before there were any."""
    name, node, seconds, setup_seconds, stages, *placed = task
    row = [name, node, seconds, setup_seconds, [_stage_row(timing) for timing in stages]]
    return [*row, *placed] if any(placed) else row


def _task_timing(
    task: str, node: str, seconds: float, setup_seconds: float, stages: Sequence[Any], *placed: Any
) -> TaskTiming:
    timings = tuple(_stage_timing(*stage) for stage in stages)
    return TaskTiming(task, node, seconds, setup_seconds, timings, *placed)


def _stage_row(timing: StageTiming) -> Sequence[Any]:
    """Return a timing as a list, without the sums at its end that are empty.

    So it reads as before there were any sums, in versions of that time, too.
    """
    *plain, usage, calls = timing
    sums = [each.as_dict() if each else {} for each in (usage, calls)]
    while sums and not sums[-1]:
        sums.pop()
    return [*plain, *sums]


def _stage_timing(
    stage: str,
    seconds: float,
    came: int,
    went: int,
    usage: Mapping[str, Any] | None = None,
    calls: Mapping[str, Any] | None = None,
) -> StageTiming:
    return StageTiming(
        stage,
        seconds,
        came,
        went,
        Usage.from_dict(usage) if usage else None,
        CallTimes.from_dict(calls) if calls else None,
    )
