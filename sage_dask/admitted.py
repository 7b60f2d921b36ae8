"""A batch that is on its way: what the driver keeps of it until it is settled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from sage_dask.intake import Intake, Places
from sage_dask.record import Failure, Record
from sage_dask.spent import Watch

# Ids and records as they were read; kept in whatever form takes least memory.
Inputs: TypeAlias = Callable[[], tuple[Sequence[str], Sequence[Record]]]


@dataclass(slots=True)
class Admitted:
    """What is needed of a batch once it is back."""

    places: Places
    inputs: Inputs
    num_sent: int
    """Records that set out."""
    num_read: int
    failures: list[Failure]
    """Rows that were unreadable."""
    admitted_s: float
    watch: Watch
    """Divides its time from ``admitted_s`` on."""

    @property
    def ids(self) -> Sequence[str]:
        """Ids of the records that set out, as they were read."""
        return self.inputs()[0]

    def with_inputs(self, failures: Sequence[Failure]) -> list[Failure]:
        """Attach the records as they were read, so that the failed file can be a source again."""
        if not any(failure.record is None for failure in failures):
            return list(failures)
        inputs = dict(zip(*self.inputs(), strict=True))
        return [
            replace(failure, record=inputs.get(failure.root or failure.id))
            if failure.record is None
            else failure
            for failure in failures
        ]


def admitted(intake: Intake, now_s: float) -> Admitted:
    """Return what to keep of a batch that sets out; its unreadable rows stay behind.

    Args:
        intake: The batch; its failures are taken out of it.
        now_s: The time in seconds.
    """
    batch = intake.batch
    ids: Sequence[str] = batch.ids
    records: Sequence[Record] = batch.records
    if intake.inputs is not None:
        ids, records = intake.places.ids, intake.inputs
    kept = Admitted(
        intake.places,
        lambda: (ids, records),
        len(batch),
        batch.num_read,
        [],
        admitted_s=now_s,
        watch=Watch(now_s),
    )
    if intake.inputs is None:
        kept.failures, batch.failures = batch.failures, []
    return kept
