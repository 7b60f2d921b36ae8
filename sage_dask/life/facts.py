"""What is known of one record's life: the batches it was in, and what became of it.

A record is in one batch per start of its run that took it on.  What is measured is
measured of the batch; every record of it went the same way, but for its fate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

from sage_dask.breakdown import Breakdown
from sage_dask.journal.rows import Row
from sage_dask.record import TaskTiming

# How a passage ended.
WRITTEN, FAILED, DROPPED = "written", "failed", "dropped"
"""Written covers records that became several."""
BEGUN = "begun"
"""Not back, as far as the events go."""
CUT_OFF = "cut off"
"""Its start ended first."""


@dataclass(frozen=True, slots=True)
class Remembered:
    """What a batch had was kept after a costly stage, so that no crash repeats it."""

    stage: str
    at_s: float
    """From the first read of the start."""


@dataclass(frozen=True, slots=True)
class Passage:
    """One batch that the record was in."""

    start: int
    """Of the run, from 1."""
    job: str
    started_at: str
    """Wall-clock time of the start, ISO 8601."""
    batch: int
    num_records: int
    """Of the batch as it was read, this one included."""
    read_s: float
    """When its reading began; all such times run from the first read of the start."""
    end: str
    """``WRITTEN``, ``FAILED``, ``DROPPED``, ``BEGUN`` or ``CUT_OFF``."""
    failure: str = ""
    """``"stage: error class: message"``, cut; of a record that became several, of one of them."""
    is_partial: bool = False
    """Whether ``end`` may be that of a part: records of its batch became several."""
    done_s: float | None = None
    """When it was safe; None until it is."""
    latency_s: float | None = None
    """From ``read_s`` to ``done_s``; the parts of the breakdown add up to it."""
    breakdown: Breakdown = field(default_factory=Breakdown)
    """Of this batch alone; nothing where an older version ran it."""
    tasks: tuple[TaskTiming, ...] = ()
    remembered: tuple[Remembered, ...] = ()
    news_s: float = 0.0
    """Of the latest event of the start."""
    stopped_by: str = ""
    """How the start ended that cut it off; empty where nothing was there to say so."""
    keys: tuple[str, ...] = ()
    """Of tasks that may be under way, as the scheduler knows them."""

    def seconds(self, name: str) -> float:
        """Return the seconds of a part of its breakdown that is no stage."""
        return self.breakdown.beside_stages(name)


@dataclass(frozen=True, slots=True)
class Rank:
    """How a latency compares with those of all records that the run wrote."""

    share_below: float
    """Of the records, those that took less time; to one per cent of the latency."""
    median_s: float
    num_records: int


@dataclass(frozen=True, slots=True)
class FailedPart:
    """A failure of the record, or of something that it became."""

    id: str
    stage: str
    error: str
    message: str
    attempts: int


@dataclass(frozen=True, slots=True)
class Fate:
    """What the journal says became of the record."""

    written: tuple[str, ...] = ()
    """Ids under which it is written; several where it was expanded."""
    failures: tuple[FailedPart, ...] = ()
    num_filtered: int = 0

    @classmethod
    def of(cls, row: Row) -> Fate:
        """Return the fate that a row tells, without the records themselves."""
        return cls(
            tuple(output_id for output_id, _ in row.outputs),
            tuple(
                FailedPart(each.id, each.stage, each.error, each.message, each.attempts)
                for each in row.failures
            ),
            row.num_filtered,
        )


@dataclass(frozen=True, slots=True)
class Life:
    """One record of a run."""

    asked: str
    """The id that was asked for."""
    record: str
    """Id as it was read: that of the record which ``asked`` is a part of, or the same."""
    pipeline: str
    outcome: str
    """Of the run: ``"running"`` where no end of its last start was told."""
    output: str
    passages: tuple[Passage, ...] = ()
    """In the order of time."""
    refusals: tuple[str, ...] = ()
    """What was said of rows with this id that never set out, such as a repeated id."""
    rank: Rank | None = None
    """Of the last passage's latency; None unless it was written."""
    fate: Fate | None = None
    """None where there is no journal, or nothing in it yet."""
    has_journal: bool = False
    tells_ids: bool = True
    """Whether any event says which records were in a batch."""
    num_read: int = 0
    """Records that the run is done with."""

    @property
    def is_known(self) -> bool:
        """Whether anything is known of the record."""
        return bool(self.passages or self.refusals or self.fate)

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain values, for JSON."""
        plain: dict[str, Any] = _plain(self)
        return plain


def _plain(value: Any) -> Any:
    """Return dataclasses and named tuples as mappings, at any depth."""
    if is_dataclass(value):
        return {each.name: _plain(getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return _plain(value._asdict())
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(item) for item in value]
    return value
