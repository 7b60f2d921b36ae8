"""What the user declares: operators, sources, sinks, and the stages that name them.

An operator holds configuration only until ``setup`` runs in the process that
will use it, so declaring one costs nothing and it travels as a few hundred
bytes.  What it reads and writes is part of the declaration: a missing field is
found while planning, not after an hour of work.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Awaitable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

from sage_dask.endpoint.limit import RequestLimit
from sage_dask.errors import PlanError
from sage_dask.record import Failure, Outcome, Record, SourceItem

# Stage names become the prefixes of Dask keys, which Dask cuts at a hyphen.
_STAGE_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*\Z")


@dataclass(frozen=True, slots=True)
class FieldSet:
    """The fields that records are known to carry at one point of a pipeline."""

    names: frozenset[str] = frozenset()
    is_open: bool = True
    """True where records may carry more than the names say."""

    def __or__(self, names: Sequence[str]) -> FieldSet:
        return FieldSet(self.names | frozenset(names), self.is_open)


@runtime_checkable
class Operator(Protocol):
    """Work on batches of records; subclass it and write ``process_batch``.

    Attributes are configuration; what is costly (models, indexes, connections)
    is made in ``setup``, once per worker process, and let go in ``teardown``.
    Tasks of one worker share the instance, so ``process_batch`` must be safe to
    call from several threads.
    """

    @property
    def reads(self) -> Sequence[str]:
        """Fields every record must carry on arrival."""
        return ()

    @property
    def writes(self) -> Sequence[str] | None:
        """Fields added or replaced; None where that is not known."""
        return None

    @property
    def imports(self) -> Sequence[str]:
        """Heavy modules that ``setup`` imports; local nodes import them once and fork."""
        return ()

    @property
    def is_async(self) -> bool:
        """Whether the operator waits for others rather than computes."""
        return inspect.iscoroutinefunction(self.process_batch)

    @property
    def endpoints(self) -> Sequence[str]:
        """Base URLs of the model servers that it sends requests to, all serving the same."""
        return ()

    @property
    def request_limit(self) -> RequestLimit:
        """How many requests each of those servers may be sent at once."""
        return RequestLimit()

    @property
    def is_costly(self) -> bool:
        """Whether what it makes is kept before later stages begin, so that none repeats it."""
        return False

    @property
    def immaterial(self) -> Sequence[str]:
        """Settings that do not change what comes out, so that a run may go on with others."""
        return ()

    def known_by(self) -> Mapping[str, object]:
        """Return what stands for settings where pipelines are compared: a file's text for its path.

        Called on the driver; it may read, and raises ``PlanError`` for what is missing.
        """
        return {}

    def fields_after(self, before: FieldSet) -> FieldSet:
        """Return what records carry afterwards; override it to remove fields."""
        if self.writes is None:
            return FieldSet(before.names, is_open=True)
        return before | self.writes

    def check(self) -> None:
        """Raise ``PlanError`` for what can be known to be wrong on the driver."""
        return

    def setup(self) -> None:
        """Make ready what is costly, in the process that will run the operator."""
        return

    def process_batch(
        self, records: Sequence[Record]
    ) -> Sequence[Outcome] | Awaitable[Sequence[Outcome]]:
        """Return one outcome per record, in order; may be a coroutine function.

        An outcome is the record to go on with (a new dict; the one given must
        not be changed), a list of records it became, None to drop it, or an
        exception to fail it.  Raising fails the records that cause it and no
        others: the batch is halved until they are found.
        """
        ...

    def teardown(self) -> None:
        """Let go what ``setup`` made."""
        return


@runtime_checkable
class Source(Protocol):
    """Where records come from; subclass it and write ``read``."""

    @property
    def name(self) -> str:
        """What errors and reports call this source, such as its file name."""
        return type(self).__name__

    def known_fields(self) -> FieldSet:
        """Return what is known of the records' fields; may look at the first few."""
        return FieldSet()

    def check(self) -> None:
        """Raise ``SourceError`` if nothing could be read, such as a missing file."""
        return

    def size(self) -> int | None:
        """Return how many records there are, where that is cheap to know."""
        return None

    def read(self) -> Iterator[SourceItem | Failure]:
        """Yield records with their ids, and a ``Failure`` for each unreadable row.

        A generator function is the simplest; it is closed when the reader stops early.
        """
        ...


@runtime_checkable
class Sink(Protocol):
    """Where records go; subclass it and write ``write`` and ``write_failures``.

    The runner calls ``open``, then the two writes in the order of the output,
    then ``close`` when the run did its job or ``abort`` when it did not.
    """

    @property
    def name(self) -> str:
        """What errors and reports call this sink, such as its file name."""
        return type(self).__name__

    @property
    def reads(self) -> Sequence[str]:
        """Fields every record must carry on arrival."""
        return ()

    def check(self) -> None:
        """Raise ``SinkError`` if nothing could be written, such as a missing folder."""
        return

    def open(self) -> None:
        """Make ready to write."""
        return

    def write(self, ids: Sequence[str], records: Sequence[Record]) -> Sequence[Failure]:
        """Write records, and return a failure for each that has no form in this sink.

        Raises:
            SinkError: Records can not be kept at all, such as on a full disk.
        """
        ...

    def write_failures(self, failures: Sequence[Failure]) -> None:
        """Keep failed records apart from the others."""
        ...

    def close(self) -> None:
        """Publish what was written."""
        return

    def abort(self) -> str:
        """Keep what was written whole, and return where it is."""
        return ""

    def files(self) -> Sequence[Path]:
        """Return the files that stand for the whole output once it is published, if any do."""
        return ()


@dataclass(frozen=True, slots=True)
class Stage:
    """One named step of a pipeline, and what one task of it needs."""

    name: str
    operator: Operator
    batch_size: int | None = None
    """Most records given to one ``process_batch`` call; None for all that travel together."""
    resources: Mapping[str, float] = field(default_factory=dict)
    """Worker resources that a task holds while it runs, such as ``{"LLM": 1}``."""
    gates: Mapping[str, int] = field(default_factory=dict)
    """Slots of cluster-wide gates that a task holds while it runs, such as ``{"llm": 1}``."""
    priority: int = 0
    """Higher runs first among tasks that are ready."""
    attempts: int = 1
    """Tries per record before it counts as failed."""
    fuse: bool = True
    """False keeps the stage in tasks of its own."""
    deadline_s: float | None = None
    """Most seconds that the operator may work on one record; None for as long as it takes.

    A call that takes longer is given up, however many records it has, and each of them is tried
    alone; one that is not finished then fails with ``DeadlineError``.  A batch with ``c`` such
    records thus costs ``1 + c`` deadlines, and with more ``attempts`` each of them one more per
    try; where the operator waits, its records are tried all at once, within one more deadline.
    Choose it well above what a whole call takes, or lower ``batch_size``.

    An operator that waits is cancelled, its waiting for slots of a model server included; an
    isolated one is killed.  A thread that computes can not be stopped: it is reported in the
    worker's log while it runs, and what it brings too late fails all the same.
    """
    isolate: bool = False
    """True runs the operator in a subprocess of the worker, one per thread that is at work in it.

    It is set up there once.  It can be killed at its deadline, and records that crash it, by a
    segmentation fault or for want of memory, fail alone.
    """

    memo: bool | None = None
    """Whether what the stage makes is kept in the run's journal before later stages begin, so
    that their crash does not repeat it; None where the operator knows (``is_costly``)."""

    @property
    def is_remembered(self) -> bool:
        """Whether what the stage makes is kept before later stages begin."""
        return self.operator.is_costly if self.memo is None else self.memo

    def __post_init__(self) -> None:
        if not _STAGE_NAME.match(self.name):
            raise PlanError(
                f"stage name {self.name!r} is not a letter followed by letters, digits or "
                "underscores; names become Dask keys, so pick one like 'embed' or 'rerank_2'"
            )
        if not isinstance(self.operator, Operator):
            raise PlanError(
                f"stage {self.name!r}: {self.operator!r} is not an operator; subclass "
                "sage_dask.Operator, or use .map(), .filter() or .flat_map() for a function"
            )
        if isinstance(self.operator, type):
            raise PlanError(
                f"stage {self.name!r}: {self.operator.__name__} is a class; "
                f"pass an instance: {self.operator.__name__}(...)"
            )
        for option, value in (("batch_size", self.batch_size), ("attempts", self.attempts)):
            if value is not None and value < 1:
                raise PlanError(f"stage {self.name!r}: {option}={value} must be at least 1")
        # "not <" refuses NaN as well, which no comparison would ever let expire.
        if self.deadline_s is not None and not 0 < self.deadline_s < float("inf"):
            raise PlanError(
                f"stage {self.name!r}: deadline_s={self.deadline_s} must be a positive number of "
                "seconds; leave it out for no limit"
            )
        for resource, amount in self.resources.items():
            if not 0 < amount < float("inf"):
                raise PlanError(
                    f"stage {self.name!r}: resource {resource!r} asks for {amount}; "
                    "ask for a positive amount or leave it out"
                )
        for gate, slots in self.gates.items():
            if type(slots) is not int or slots < 1:
                raise PlanError(
                    f"stage {self.name!r}: gate {gate!r} asks for {slots!r} slots; "
                    "ask for a positive whole number or leave it out"
                )
