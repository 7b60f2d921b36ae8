"""Work with a known cost, for measuring everything around it.

Importable from any process: functions of a script are pickled into every task.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sage_dask.record import Failure, Record, SourceItem
from sage_dask.stage import Operator, Sink, Source


def first(record: Record) -> Record:
    """Return the record: a stage that costs nothing."""
    return record


def second(record: Record) -> Record:
    """Return the record: a stage that costs nothing."""
    return record


def third(record: Record) -> Record:
    """Return the record: a stage that costs nothing."""
    return record


def burn_25_ms(record: Record) -> Record:
    """Hold a core for 25 ms of this thread's own CPU time, however busy the machine is."""
    until = time.thread_time() + 0.025
    while time.thread_time() < until:
        pass
    return record


@dataclass
class Find(Operator):
    """Stand for retrieval: wait as long as told, and give each record passages."""

    seconds: float
    """For each batch."""

    @property
    def writes(self) -> Sequence[str]:
        """The passages."""
        return ("passages",)

    def process_batch(self, records: Sequence[Record]) -> Sequence[Record]:
        """Wait, and give passages."""
        time.sleep(self.seconds)
        passages = [{"id": str(n), "text": f"passage {n}", "score": 1.0 / n} for n in range(1, 11)]
        return [{**record, "passages": passages} for record in records]


@dataclass
class Numbers(Source):
    """Records ``{"x": 0}``, ``{"x": 1}``, ..., made as they are read."""

    count: int

    def size(self) -> int:
        """Return the count."""
        return self.count

    def read(self) -> Iterator[SourceItem | Failure]:
        """Yield the records."""
        for number in range(self.count):
            yield SourceItem(str(number), {"x": number})


class Discard(Sink):
    """Forgets what it is given, so that memory is the pipeline's own."""

    def write(self, ids: Sequence[str], records: Sequence[Record]) -> Sequence[Failure]:
        """Forget records."""
        return ()

    def write_failures(self, failures: Sequence[Failure]) -> None:
        """Forget failures."""
