"""Where batches go that are back: into the sink at once, or into a journal and from there.

What an outlet was given is safe once ``written`` says so, and only then is the
batch's place free for another.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import NamedTuple, Protocol, TypeAlias

from sage_dask.admitted import Admitted
from sage_dask.event_file import EventFile
from sage_dask.events import BatchCommitted, BatchKept, BatchRemembered, Event, RecordsRefused
from sage_dask.finished import Finished
from sage_dask.record import Batch
from sage_dask.stage import Sink


class Written(NamedTuple):
    """A batch that is safe, or one that may go on because what it has is safe."""

    batch: Batch
    event: BatchCommitted | BatchRemembered
    """What is to be told of it, and which of the two it is."""
    kept: BatchKept | None = None
    """How long it took until it was safe, where that is told apart."""


# Makes the event of a batch from it, the failures of reading included, and the number written.
EventMaker: TypeAlias = Callable[[Batch, int], BatchCommitted]


class Outlet(Protocol):
    """Keeps batches and events."""

    commits_later: bool
    """Whether a batch's event is made before the batch is safe, and ``BatchKept`` follows."""

    @property
    def keeps_events(self) -> bool:
        """Whether anybody will ever read what is noted."""
        ...

    def finished(self) -> Finished | None:
        """Return what earlier starts of the run are done with; None where nothing is kept."""
        ...

    def past_events(self) -> Iterator[Event]:
        """Yield what earlier starts of the run noted."""
        ...

    def open(self) -> None:
        """Make ready, before the first batch."""
        ...

    def note(self, event: Event) -> None:
        """Keep an event that belongs to no batch."""
        ...

    def take(self, batch: Batch, admitted: Admitted, event_of: EventMaker) -> None:
        """Take a batch that is done; it may be safe only later."""
        ...

    def remember(
        self, batch: Batch, admitted: Admitted, stage: str, event: BatchRemembered
    ) -> None:
        """Keep what a batch has after a costly stage; it may go on once ``written`` gives it."""
        ...

    def written(self) -> Iterator[Written]:
        """Yield the batches that became safe since the last call.

        Raises:
            RunError: Nothing can be kept any more.
        """
        ...

    @property
    def num_pending(self) -> int:
        """Batches that were taken, and will become safe without any other."""
        ...

    def flush(self) -> None:
        """Wait until those are safe.

        Raises:
            RunError: Nothing can be kept any more.
        """
        ...

    def finish(self, num_items: int, tell: Callable[[RecordsRefused], None]) -> None:
        """Publish the output; all batches were taken.

        Args:
            num_items: Rows that the input has.
            tell: Told of records that have no form in the output, before it is published; may
                raise to prevent that.
        """
        ...

    def abort(self) -> str:
        """Keep what is there whole, and return a sentence about it."""
        ...

    def close(self) -> None:
        """Let go of files; nothing is taken or noted after it."""
        ...


class DirectOutlet:
    """Writes batches to the sink as they come, or in the order of reading.

    Args:
        sink: Where to.
        ordered: Whether in the order of reading.
        open_events: Opens the file of the run's events; returns None where none is kept.
    """

    num_pending = 0
    commits_later = False

    def __init__(
        self, sink: Sink, *, ordered: bool, open_events: Callable[[], EventFile | None]
    ) -> None:
        self._sink = sink
        self._ordered = ordered
        self._open_events = open_events
        self._events: EventFile | None = None
        self._is_open = False
        self._done: dict[int, tuple[Batch, Admitted, EventMaker]] = {}
        self._next = 0
        self._written: deque[Written] = deque()

    @property
    def keeps_events(self) -> bool:
        """Whether the run has a file of events."""
        return self._events is not None

    def finished(self) -> None:
        """Return None: nothing is kept."""

    def past_events(self) -> Iterator[Event]:
        """Yield nothing: each run is the first."""
        yield from ()

    def open(self) -> None:
        """Open the file of events, then the sink."""
        self._events = self._open_events()
        self._is_open = True
        self._sink.open()

    def note(self, event: Event) -> None:
        """Append an event to the file."""
        if self._events is not None:
            self._events.append(event)

    def take(self, batch: Batch, admitted: Admitted, event_of: EventMaker) -> None:
        """Write the batch, and those that waited for it; or have it wait for its turn."""
        if not self._ordered:
            self._write(batch, admitted, event_of)
            return
        self._done[batch.index] = batch, admitted, event_of
        while self._next in self._done:
            self._write(*self._done.pop(self._next))
            self._next += 1

    def remember(
        self, batch: Batch, admitted: Admitted, stage: str, event: BatchRemembered
    ) -> None:
        """Let the batch go on: nothing is kept that a later start could use."""
        self.note(event)
        self._written.append(Written(batch, event))

    def written(self) -> Iterator[Written]:
        """Yield what was written since the last call."""
        while self._written:
            yield self._written.popleft()

    def flush(self) -> None:
        """Wait for nothing: what is written is as safe as it gets."""

    def finish(self, num_items: int, tell: Callable[[RecordsRefused], None]) -> None:
        """Publish the output."""
        self._sink.close()

    def abort(self) -> str:
        """Leave what was written whole, and return where it is."""
        return self._sink.abort() if self._is_open else ""

    def close(self) -> None:
        """Close the file of events."""
        if self._events is not None:
            self._events.close()
            self._events = None

    def _write(self, batch: Batch, admitted: Admitted, event_of: EventMaker) -> None:
        unwritable = [
            replace(failure, root=batch.roots.get(failure.id))
            for failure in self._sink.write(batch.ids, batch.records)
        ]
        batch.failures = [*admitted.failures, *batch.failures, *unwritable]
        if batch.failures:
            batch.failures = admitted.with_inputs(batch.failures)
            self._sink.write_failures(batch.failures)
        event = event_of(batch, len(batch) - len(unwritable))
        self.note(event)
        self._written.append(Written(batch, event))
