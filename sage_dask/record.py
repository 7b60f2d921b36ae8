"""What flows: records, and the batches they travel in.

A record is a plain ``dict``; its id travels beside it, so that no operator can
lose it.  A batch carries its records together with everything that happened to
those that are no longer among them, so that one object accounts for every
record it set out with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

from sage_dask.endpoint.call_times import CallTimes
from sage_dask.endpoint.usage import Usage

Record: TypeAlias = dict[str, Any]

# What an operator says of one record: the record to go on with, the records it
# became, nothing (it is dropped), or the exception that it failed with.
Outcome: TypeAlias = Record | Sequence[Record] | Exception | None


class Position(NamedTuple):
    """Where in its file a record stands."""

    line: int
    """1-based line (row for formats without lines)."""
    byte_offset: int | None = None
    """Offset of the line's first byte in the uncompressed file, where there is one."""


class SourceItem(NamedTuple):
    """One record as a source hands it over."""

    id: str
    record: Record
    position: Position | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """One record that did not make it, and why."""

    id: str
    stage: str
    """The stage that failed, or ``"read"`` for the source."""
    error: str
    """Class name of the exception."""
    message: str
    attempts: int = 1
    root: str | None = None
    """Id of the record that was read, where an expansion gave this one its own id."""
    record: Record | None = None
    """The record as it was read; the driver adds it when the failure is written."""
    position: Position | None = None

    def as_record(self) -> Record:
        """Return the failure as a row of the failed file."""
        row: Record = {
            "id": self.id,
            "stage": self.stage,
            "error": self.error,
            "message": self.message,
            "attempts": self.attempts,
        }
        if self.position is not None:
            row["line"] = self.position.line
            if self.position.byte_offset is not None:
                row["byte_offset"] = self.position.byte_offset
        row["input"] = self.record
        return row


class StageTiming(NamedTuple):
    """What one stage took within one task."""

    stage: str
    seconds: float
    records_in: int
    records_out: int
    usage: Usage | None = None
    """What its requests cost; None or empty where it sent none."""
    calls: CallTimes | None = None
    """Where the time of its calls to a model server went; None or empty where it made none."""


class TaskTiming(NamedTuple):
    """What one task took on its worker; durations of that worker's own clock."""

    task: str
    """Name of the stage plan that ran, such as ``"embed+retrieve"``."""
    node: str
    seconds: float
    """Busy time of the task, set-up excluded."""
    setup_seconds: float
    stages: tuple[StageTiming, ...]
    waits: Mapping[str, float] = {}
    """Seconds before and around it, by the names in ``spent``; nothing in one process."""
    reason: str = ""
    """Why it was placed on its node."""


@dataclass(slots=True)
class Batch:
    """Records that travel together, and the account of those that left on the way."""

    index: int
    """Place in the order of reading, from 0."""
    ids: list[str]
    records: list[Record]
    failures: list[Failure] = field(default_factory=list)
    filtered: list[str] = field(default_factory=list)
    """Id as read, for each record that was dropped; several where its children were."""
    num_expanded: int = 0
    """Records gained by expansions: one that became three adds two."""
    tasks: list[TaskTiming] = field(default_factory=list)
    roots: dict[str, str] = field(default_factory=dict)
    """Id as read, for each id that an expansion made."""
    priority: float = 0.0
    """What the records say of their own urgency, higher first; known to the driver only."""
    start: int = 0
    """Tasks of the plan that the batch has passed; known to the driver only."""

    def __len__(self) -> int:
        """Return how many records are still on their way."""
        return len(self.records)

    @property
    def num_filtered(self) -> int:
        """How many records were dropped."""
        return len(self.filtered)

    @property
    def num_read(self) -> int:
        """How many records set out, by the batch's own account."""
        return len(self.records) + len(self.failures) + self.num_filtered - self.num_expanded

    def __repr__(self) -> str:
        return (
            f"<Batch {self.index}: {len(self.records)} records, {len(self.failures)} failed, "
            f"{self.num_filtered} filtered, {self.num_expanded} expanded>"
        )
