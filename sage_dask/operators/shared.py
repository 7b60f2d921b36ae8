"""What operators with costly state have in common.

A declared operator is what travels; what ``setup`` made stays where it was
made.  Models and indexes are made once per process, whatever number of stages
and threads ask.  Bad records are set apart before the others are worked on
together.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Generic, TypeVar

from sage_dask.errors import SetupError
from sage_dask.record import Outcome, Record

T = TypeVar("T")


class Declared:
    """Mixin for dataclasses that pickle as they were declared, without what ``setup`` made.

    Fields with ``init=False`` are left out; on arrival their class default stands in.
    """

    def __getstate__(self) -> dict[str, Any]:
        return {
            item.name: getattr(self, item.name)
            for item in fields(self)  # type: ignore[arg-type]  # the mixin only joins dataclasses
            if item.init
        }


def ready(value: T | None, owner: object) -> T:
    """Return what ``setup`` made.

    Raises:
        SetupError: ``setup`` was not called on this instance in this process.
    """
    if value is None:
        raise SetupError(
            f"{type(owner).__name__} is declared but not set up in this process; "
            "call setup() before process_batch(), as the runners do"
        )
    return value


@dataclass(slots=True)
class _Slot:
    lock: threading.Lock = field(default_factory=threading.Lock)
    values: list[Any] = field(default_factory=list)


class ProcessCache(Generic[T]):
    """Things that are made once per process; whoever asks while one is being made waits for it.

    Each key has a lock of its own, so a slow one does not hold up the others.
    What raises is not kept: the next caller tries again.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._slots: dict[Hashable, _Slot] = {}

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return the value for ``key``, calling ``make`` if there is none yet."""
        with self._lock:
            slot = self._slots.setdefault(key, _Slot())
        with slot.lock:
            if not slot.values:
                slot.values.append(make())
            value: T = slot.values[0]
            return value

    def __len__(self) -> int:
        return sum(1 for slot in self._slots.values() if slot.values)

    def __repr__(self) -> str:
        return f"<ProcessCache {len(self)} made>"


def faults_apart(
    records: Sequence[Record],
    fault_of: Callable[[Record], Exception | None],
    work: Callable[[Sequence[Record]], Sequence[Record]],
) -> list[Outcome]:
    """Fail the records that have a fault and work on all others together.

    Args:
        records: Records of one batch.
        fault_of: Returns what is wrong with a record, or None.
        work: Returns one new record per sound record, in order; not called for none.

    Returns:
        One outcome per record, in order.
    """
    outcomes: list[Outcome] = [fault_of(record) for record in records]
    sound = [place for place, fault in enumerate(outcomes) if fault is None]
    if sound:
        results = work([records[place] for place in sound])
        for place, result in zip(sound, results, strict=True):
            outcomes[place] = result
    return outcomes


def text_fault(record: Record, name: str, owner: object) -> Exception | None:
    """Return what keeps field ``name`` from being used as a text, or None."""
    value = record.get(name)
    if isinstance(value, str) and value.strip():
        return None
    found = "an empty text" if isinstance(value, str) else type(value).__name__
    if name not in record:
        found = "no such field"
    return ValueError(
        f"{type(owner).__name__}: field {name!r} must hold a text that is not empty, "
        f"found {found}; filter such records out before this stage"
    )
