"""What happened in a run, one JSON line per event.

The report is a fold over these events and nothing else, so a run can be scored
again from its file.  Durations come from one process's clock; clocks of two
hosts are never subtracted.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import IO, Any, ClassVar, TypeAlias, get_args

from sage_dask.endpoint.call_times import CallTimes
from sage_dask.endpoint.usage import Usage
from sage_dask.errors import RunError, SageError
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
    JobStarted | BatchCommitted | BatchRemembered | RecordsTakenBack | RecordsRefused | JobFinished
)

_KINDS: dict[str, type[Any]] = {kind.kind: kind for kind in get_args(Event)}


class EventFile:
    """An append-only file of events; each reaches the system as it comes.

    Raises:
        OSError: The file can not be made, or is there.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        # Unbuffered: a full disk must be met in append, not when the file is closed.
        self._file: IO[bytes] = path.open("xb", buffering=0)

    def append(self, event: Event) -> None:
        """Write one event.

        Raises:
            RunError: The disk refused.  Said once: nothing more is written then.
        """
        if self._file.closed:
            return
        # In one call, so that a kill tears at most the last line.
        line = memoryview(event_line(event) + b"\n")
        try:
            while line:
                line = line[self._file.write(line) :]
        except OSError as error:
            self._file.close()
            raise RunError(
                f"events of the run can not be written to {str(self._path)!r} "
                f"({error.strerror}); free space or give another run_dir, and run again"
            ) from error

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read_events(path: Path) -> Iterator[Event]:
    """Yield the events of a file up to its last whole line.

    Raises:
        SageError: A line other than a torn last one is no event; the message names it.
    """
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                return
            try:
                yield parse_event(line)
            except (ValueError, KeyError, TypeError) as error:
                raise SageError(
                    f"{path}, line {number}: not an event ({type(error).__name__}: {error}); "
                    "the file was changed after the run, or is no event file"
                ) from error


def event_line(event: Event) -> bytes:
    """Return an event as a line of JSON, without its end; ``parse_event`` is the way back."""
    return json.dumps(_row(event), separators=(",", ":")).encode()


def _row(event: Event) -> dict[str, Any]:
    """Return an event as what JSON takes."""
    row = {"kind": event.kind} | {each.name: getattr(event, each.name) for each in fields(event)}
    if isinstance(event, BatchCommitted | BatchRemembered):
        row["tasks"] = [
            (*task[:-1], [_stage_row(timing) for timing in task.stages]) for task in event.tasks
        ]
    return row


def parse_event(line: bytes) -> Event:
    """Return the event of a line.

    Raises:
        ValueError, KeyError, TypeError: It is none.
    """
    row = json.loads(line)
    kind = _KINDS[row.pop("kind")]
    if kind in (BatchCommitted, BatchRemembered):
        row["tasks"] = [
            TaskTiming(task, node, seconds, setup_s, tuple(_stage_timing(*s) for s in stages))
            for task, node, seconds, setup_s, stages in row["tasks"]
        ]
    event: Event = kind(**row)
    return event


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
