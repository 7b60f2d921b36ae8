"""Where a journal lies: what every way of keeping it must do.

One process writes at a time; ``RunLock`` sees to that.  Whatever was committed
is there after a crash, and nothing else is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple, Protocol

from sage_dask.errors import RunError
from sage_dask.journal.entries import EPOCH, Entry, Group, Mark, Memo


class JournalError(RunError):
    """A journal can not be written or read; what was committed before is not touched."""


class CorruptJournalError(JournalError):
    """A journal was changed by something else than sage_dask, or its disk lost bytes."""


class Counts(NamedTuple):
    """How much a journal holds."""

    num_entries: int
    num_failed: int


def check_epoch(facts: Mapping[str, str], epoch: int | None, group: Group) -> None:
    """Raise unless the run is a start's, or becomes it by a group.

    Args:
        facts: What is committed.
        epoch: The start that commits, from 1; None for a store where none was begun.
        group: What is to be committed.

    Raises:
        JournalError: A later start has begun.
    """
    if epoch is None:
        return
    present = int(facts.get(EPOCH, 0))
    is_first = group.facts.get(EPOCH) == str(epoch)
    if not (present < epoch if is_first else present == epoch):
        raise JournalError(
            f"another process has taken over the run (it is start {present}, and this one is "
            f"{epoch}); let that one go on"
        )


class Store(Protocol):
    """Keeps entries, memos, events and facts.

    Any thread may call any method.  Iterators may be read while this process commits: they
    give every entry that was there when they were made, and may give later ones.  They hold
    neither a lock nor more than some rows between two of their items.

    A store that was opened for an epoch writes for that start of the run alone: its first
    commit sets the fact ``EPOCH`` to its number, and every commit fails with ``JournalError``
    once another process has set a later one.
    """

    def begin(self) -> int:
        """Begin one more start of the run, and return which it is, from 1.

        From here on commits of earlier starts fail, and those of this one once a later one began.

        Raises:
            JournalError: As ``commit``.
        """
        ...

    def commit(self, group: Group) -> None:
        """Make a group last: it is on the disk when this returns, and all of it or nothing.

        Raises:
            JournalError: The disk refused, or another process took the run over.  Nothing of
                the group is kept, nothing before it is lost, and reading still works.
        """
        ...

    def marks(self, after: int = -1) -> Iterator[Mark]:
        """Yield the entries of places above ``after``, in order, without bodies.

        Raises:
            CorruptJournalError: An entry is not what was committed; the message names it.
        """
        ...

    def entries(self, *, failed_only: bool = False) -> Iterator[Entry]:
        """Yield the entries in the order of reading.

        Raises:
            CorruptJournalError: An entry is not what was committed; the message names it.
        """
        ...

    def memos(self) -> Iterator[Memo]:
        """Yield the memos of places that have no entry, in the order of reading.

        Raises:
            CorruptJournalError: A memo is not what was committed; the message names it.
        """
        ...

    def events(self) -> Iterator[bytes]:
        """Yield the events in the order in which they were committed.

        Raises:
            CorruptJournalError: An event is not what was committed.
        """
        ...

    def facts(self) -> Mapping[str, str]:
        """Return what is known of the run as a whole, the store's own ``FORMAT`` included."""
        ...

    def counts(self) -> Counts:
        """Return how much there is."""
        ...

    def forget(self, places: Iterable[int], group: Group) -> None:
        """Remove the entries and memos of some places and commit a group, in one go.

        The group comes second: it may fill the places again.  Places that hold nothing are
        no error.
        """
        ...

    def renumber(self, places: Iterable[tuple[int, int]], group: Group) -> None:
        """Give entries and memos other places, as ``(old, new)``, and commit a group, in one go.

        Places that are not named stay; the new ones of all together are unique.  The group
        comes second.

        Raises:
            JournalError: As ``commit``, or two would share a place.
        """
        ...

    def close(self) -> None:
        """Let go of the files; what was committed stays.  Closing again does nothing."""
        ...
