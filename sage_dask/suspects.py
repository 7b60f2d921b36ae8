"""Which record killed its worker, found out by running suspects again.

Dask blames every task that a lost worker held, also those that had not begun.
So the batches that it blames run once more with nothing else under way, and
what dies again is halved: many batches first, then the records of one.  Only a
record that dies alone, several times, is convicted.  Nothing is run here:
``next_case`` says what to run, ``survived`` and ``died`` learn how it went.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from sage_dask.record import Batch, Failure

# Workers also die by chance.  If a run alone meets with that at a probability p, an innocent
# record that was singled out is convicted with p ** STRIKES; one more strike costs one more
# worker, and a culprit of 20 batches of 32 has cost about ten by then.
STRIKES = 3

# Fields of a batch that all its parts have in common.
_SHARED = frozenset({"index", "priority", "start"})


@dataclass(frozen=True, slots=True)
class Death:
    """One worker process that ended while it held a suspect."""

    worker: str
    """Its address."""
    pid: int
    name: str
    """Of the worker, which its next process has too."""
    memory_limit_bytes: int
    """0 where it had none."""

    def __str__(self) -> str:
        return self.worker if self.name == self.worker else f"{self.name} at {self.worker}"


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """Neighbouring records of a batch under suspicion, to be run as one batch."""

    batch: Batch
    """Still under the index of the whole."""
    attempts: int = 1
    """Runs so far that ended with the worker."""
    strikes: tuple[Death, ...] = ()
    """Deaths while it ran alone and was a single record."""

    @property
    def is_single(self) -> bool:
        """Whether there is nothing left to halve."""
        return len(self.batch) <= 1


class Suspects:
    """Batches of one job whose worker died, until each of their records is cleared or convicted.

    Cases are run one at a time, with nothing else of the job under way; the parts of one
    case run together.  Those that die are halved: first into fewer parts, then the one part
    into halves of its records, and a single record runs again until it has died alone
    ``STRIKES`` times.  A record that always kills its worker is convicted, and an innocent one
    never, unless its worker died by chance in ``STRIKES`` runs of that record alone.

    With ``k`` accused batches of at most ``n`` records, ``p`` of them culprits, and ``m``
    deaths by chance, there are at most ``p * (2 * D + STRIKES) + 2 * m`` cases, where ``D`` is
    ``ceil(log2(k)) + ceil(log2(n))``; the death that led to the accusation counts in ``m``
    where no culprit caused it.

    Args:
        rss_at_kill: Returns the memory in bytes for which a process was ended, None if it
            was not.  Asked for a convicted record's deaths only, the first of which are long
            past by then, so that what is told of them has arrived.
    """

    def __init__(self, rss_at_kill: Callable[[Death], int | None]) -> None:
        self._rss_at_kill = rss_at_kill
        self._open: dict[int, _Whole] = {}
        self._cases: deque[Sequence[Part]] = deque()
        self._dead: list[Part] = []
        """Parts that were accused, or died in the case that is under way."""
        self._is_alone = False
        """Whether the case under way is a single part."""

    def __len__(self) -> int:
        """Return how many batches are under suspicion; nothing else may be begun until it is 0."""
        return len(self._open)

    def accuse(self, batch: Batch) -> None:
        """Suspect a batch whose worker died amid others.

        Args:
            batch: As it was sent.
        """
        self._open[batch.index] = _Whole(len(batch))
        self._dead.append(Part(batch))

    def next_case(self) -> Sequence[Part]:
        """Return what to run next, each part as a batch of its own.

        Call it once all parts of the last case are back, and nothing else is under way.
        """
        # The halves of what died last come first.  So few batches are open at a time, and the
        # pieces of each are settled in the order of its records.
        self._cases.extendleft(reversed(_halved(self._dead)))
        self._dead = []
        case = self._cases.popleft()
        self._is_alone = len(case) == 1
        return case

    def survived(self, part: Part, result: Batch) -> Batch | None:
        """Clear a part of the present case; return its whole batch where it was the last of it.

        Args:
            part: As ``next_case`` gave it.
            result: What came of it.
        """
        whole = self._open[part.batch.index]
        whole.num_missing -= len(part.batch)
        whole.pieces.append(result)
        if whole.num_missing:
            return None
        del self._open[part.batch.index]
        return joined(whole.pieces)

    def died(self, part: Part, death: Death) -> Batch | None:
        """Learn that a part of the present case died; return as ``survived`` does.

        There is a whole batch to return only where this convicts its last record.
        """
        part = replace(part, attempts=part.attempts + 1)
        if self._is_alone and part.is_single:
            part = replace(part, strikes=(*part.strikes, death))
        if len(part.strikes) < STRIKES:
            self._dead.append(part)
            return None
        return self.survived(part, self._convicted(part))

    def _convicted(self, part: Part) -> Batch:
        rss = [self._rss_at_kill(death) for death in part.strikes]
        killed = [(d, used) for d, used in zip(part.strikes, rss, strict=True) if used is not None]
        # Positive evidence: what the kernel ends for memory leaves no word of why.
        if killed:
            error, message = "OutOfMemory", _of_memory(part, *killed[-1], len(killed))
        else:
            error, message = "KilledWorker", _of_something(part)
        batch, failures = part.batch, list(part.batch.failures)
        for record_id in batch.ids:  # Empty batches can die, too.
            failure = Failure(record_id, "worker", error, message, attempts=part.attempts)
            failures.append(replace(failure, root=batch.roots.get(record_id)))
        return replace(batch, ids=[], records=[], failures=failures)

    def __repr__(self) -> str:
        return f"<Suspects {len(self)} batches, {len(self._cases)} cases waiting>"


@dataclass(slots=True)
class _Whole:
    """A batch under suspicion, as far as it is known."""

    num_missing: int
    """Records whose part is not settled."""
    pieces: list[Batch] = field(default_factory=list)
    """What came of the others, in the order of the records."""


def split(batch: Batch) -> tuple[Batch, Batch]:
    """Return the two halves of a batch of several records; ``joined`` undoes it.

    What was counted of the batch so far goes with the first half.
    """
    middle = (len(batch) + 1) // 2
    later = set(batch.ids[middle:])
    shared = {f.name: getattr(batch, f.name) for f in fields(batch) if f.name in _SHARED}
    first = replace(
        batch,
        ids=batch.ids[:middle],
        records=batch.records[:middle],
        roots={i: root for i, root in batch.roots.items() if i not in later},
    )
    second = Batch(
        **shared,
        ids=batch.ids[middle:],
        records=batch.records[middle:],
        roots={i: root for i, root in batch.roots.items() if i in later},
    )
    return first, second


def joined(parts: Sequence[Batch]) -> Batch:
    """Return what came of the parts of one batch as one batch, with their accounts added up.

    Args:
        parts: In the order of their records; at least one.
    """
    first, *others = parts
    whole = replace(first)
    for part in others:
        for name in (f.name for f in fields(Batch) if f.name not in _SHARED):
            setattr(whole, name, _added(getattr(whole, name), getattr(part, name)))
    return whole


def _added(one: Any, other: Any) -> Any:
    """Add up what two parts say of one field: lists, dicts without common keys, or counts."""
    return one | other if isinstance(one, dict) else one + other


def _halved(dead: Sequence[Part]) -> list[Sequence[Part]]:
    """Return the cases that come of what died together; a single record runs once more."""
    if len(dead) > 1:
        middle = (len(dead) + 1) // 2
        return [dead[:middle], dead[middle:]]
    return [[half] for part in dead for half in _halves(part)]


def _halves(part: Part) -> list[Part]:
    if part.is_single:
        return [part]
    return [replace(part, batch=half) for half in split(part.batch)]


def _of_memory(part: Part, death: Death, rss_bytes: int, num_killed: int) -> str:
    return (
        f"worker {death} was ended at {_mebibytes(rss_bytes)} of memory (limit "
        f"{_mebibytes(death.memory_limit_bytes)}) while this record ran there alone, as in "
        f"{num_killed} of {len(part.strikes)} runs; give workers a larger memory_limit, or have "
        "the stage hold less of such a record at a time"
    )


def _of_something(part: Part) -> str:
    workers = ", ".join(str(death) for death in part.strikes)
    return (
        f"the worker's process ended in all {len(part.strikes)} runs of this record alone "
        f"({workers}); look into these workers' logs for a crash, and into the kernel's log for "
        "'Out of memory', which ends a process without a word; the failed file keeps the record"
    )


def _mebibytes(num_bytes: int) -> str:
    return f"{num_bytes / 2**20:,.0f} MiB"
