"""A journal in files that only grow, for network file systems.

Each process that writes adds a file of its own: a segment.  A commit is one write and one
sync.  Nothing is mapped, renamed or written twice, so nothing rests on more than what NFS
promises: whoever opens a file sees what was synced before.
"""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from sage_dask import failpoint
from sage_dask.journal.entries import EPOCH, FORMAT, Entry, Group, Mark, Memo
from sage_dask.journal.entry_index import Found
from sage_dask.journal.segment_bodies import Bodies, line_at, location
from sage_dask.journal.segment_contents import Contents
from sage_dask.journal.segment_file import SegmentFile, journal_error, last_segment, segment_path
from sage_dask.journal.segment_lines import VERSION, Stand, closing, header, seal
from sage_dask.journal.segment_reader import Line, claim, damaged, read_groups
from sage_dask.journal.segment_rows import (
    entry_of,
    event_of,
    forget_row,
    group_rows,
    memo_of,
    renumber_row,
)
from sage_dask.journal.store import Counts, JournalError, check_epoch


class SegmentStore:
    """The journal in a folder of segments.

    Opening reads all of it once.  The marks stay in memory, about sixty bytes per entry; bodies
    are read when they are asked for.  The first commit makes this process's segment, and
    from then on no other process's commits succeed.

    Args:
        folder: Of the segments; made if it is not there.
        read_only: To look while another process may write; the folder must be there.

    Raises:
        JournalError: The files can not be read, or are of another version.
        CorruptJournalError: Something that was committed is not what it was.
    """

    def __init__(self, folder: Path, *, read_only: bool = False) -> None:
        self._folder = folder
        self._epoch: int | None = None
        self._lock = threading.RLock()
        self._own: SegmentFile | None = None
        self._refusal = "is open to be read only; open it to be written" if read_only else ""
        if not read_only:
            try:
                folder.mkdir(exist_ok=True)
            except OSError as error:
                raise journal_error(folder, "made", error) from error
        self._load(last_segment(folder))

    def _load(self, last: int) -> None:
        """Read the segments up to one of them."""
        contents, stand = Contents(), Stand()
        paths = {number: segment_path(self._folder, number) for number in range(1, last + 1)}
        try:
            # Before the rest is read, since a writer may make it grow meanwhile.
            seen = _extent(self._folder, last)
            ends = _ends(paths)
            for number, path in paths.items():
                for after, lines in read_groups(path, number, stand, ends[number]):
                    for line in lines:
                        _apply(contents, line, number, path)
                    stand = after
        except OSError as error:
            raise journal_error(self._folder, "read", error) from error
        self._contents, self._stand, self._seen = contents, stand, seen

    def begin(self) -> int:
        """Begin one more start of the run."""
        with self._lock:
            self._catch_up(last_segment(self._folder))
            self._epoch = int(self._contents.facts.get(EPOCH, 0)) + 1
            self.commit(Group(facts={EPOCH: str(self._epoch)}))
            return self._epoch

    def commit(self, group: Group) -> None:
        """Make a group last."""
        self._write(group, list)

    def forget(self, places: Iterable[int], group: Group) -> None:
        """Remove the entries and memos of some places and commit a group, in one go."""
        self._write(group, lambda: [forget_row(self._contents.held(places))])

    def renumber(self, places: Iterable[tuple[int, int]], group: Group) -> None:
        """Give entries and memos other places, and commit a group, in one go."""
        self._write(group, lambda: [renumber_row(self._contents.moves(places))])

    def _write(self, group: Group, first: Callable[[], list[list[Any]]]) -> None:
        with self._lock:
            if self._refusal:
                raise JournalError(f"journal {str(self._folder)!r} {self._refusal}")
            own = self._own or self._begin(group)
            self._check_epoch(group)
            rows = [*first(), *group_rows(group)]
            lines = [seal(row) for row in rows]
            stand = functools.reduce(Stand.after, lines, self._stand)
            end = closing(stand, len(lines))
            failpoint.reach("commit")
            offset = own.append(b"".join([*lines, end]))
            failpoint.reach("committed")
            self._stand = stand.after(end)._replace(num_groups=stand.num_groups + 1)
            for row, line in zip(rows, lines, strict=True):
                self._contents.apply(row, location(own.number, offset))
                offset += len(line)

    def _begin(self, group: Group) -> SegmentFile:
        """Make the segment of this process, behind all others."""
        last = last_segment(self._folder)
        self._catch_up(last)
        # Making it ends all other writing, which this process may not be the one to do.
        self._check_epoch(group)
        own = SegmentFile(self._folder, last + 1)
        try:
            # Another may have written between looking and making; from now on it does not.
            self._catch_up(last)
            line = header(own.number, self._stand)
            own.append(line)
        except BaseException:
            own.close()
            raise
        self._stand = self._stand.after(line)
        self._own = own
        return own

    def _catch_up(self, last: int) -> None:
        """Read all again if it has grown since."""
        if _extent(self._folder, last) != self._seen:
            self._load(last)

    def _check_epoch(self, group: Group) -> None:
        try:
            check_epoch(self._contents.facts, self._epoch, group)
        except JournalError as error:
            raise JournalError(f"journal {str(self._folder)!r}: {error}") from error

    def marks(self, after: int = -1) -> Iterator[Mark]:
        """Yield the entries of places above ``after``, in order, without bodies."""
        return (found.mark for found in self._found(after))

    def _found(self, after: int = -1) -> Iterator[Found]:
        with self._lock:
            pages = self._contents.entries.pages(after)
        for number in pages:
            with self._lock:
                page = self._contents.entries.page(number)
            yield from (found for found in page if found.mark.seq > after)

    def entries(self, *, failed_only: bool = False) -> Iterator[Entry]:
        """Yield the entries in the order of reading."""
        with Bodies(self._folder) as bodies:
            for mark, place in self._found():
                if mark.is_failed or not failed_only:
                    yield entry_of(bodies.read(place), mark.seq)

    def memos(self) -> Iterator[Memo]:
        """Yield the memos of places that have no entry, in the order of reading."""
        with self._lock:
            memos = sorted(self._contents.memos.items())
        with Bodies(self._folder) as bodies:
            for seq, place in memos:
                yield memo_of(bodies.read(place), seq)

    def events(self) -> Iterator[bytes]:
        """Yield the events in the order in which they were committed."""
        with self._lock:
            events = self._contents.events[:]
        with Bodies(self._folder) as bodies:
            for place in events:
                yield event_of(bodies.read(place))

    def facts(self) -> Mapping[str, str]:
        """Return what is known of the run as a whole."""
        with self._lock:
            return {FORMAT: str(VERSION), **self._contents.facts}

    def counts(self) -> Counts:
        """Return how much there is."""
        with self._lock:
            entries = self._contents.entries
            return Counts(entries.num_entries, entries.num_failed)

    def close(self) -> None:
        """Let go of the files; closing again does nothing."""
        with self._lock:
            self._refusal = "is closed; open it again"
            if self._own:
                self._own.close()

    def __repr__(self) -> str:
        counts = self.counts()
        return f"<SegmentStore {str(self._folder)!r} {counts.num_entries} entries>"


def _ends(paths: Mapping[int, Path]) -> dict[int, Stand | None]:
    """Return where each segment ends by what the next one with a header says."""
    ends: dict[int, Stand | None] = {}
    end = None
    for number in sorted(paths, reverse=True):
        ends[number] = end
        end = claim(paths[number]) or end
    return ends


def _apply(contents: Contents, line: Line, number: int, path: Path) -> None:
    try:
        contents.apply(line.fields, location(number, line.offset))
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        raise damaged(path, line_at(path, line.offset), "says nothing that is known") from error


def _extent(folder: Path, last: int) -> tuple[int, int]:
    """Return the last segment and its size."""
    if not last:
        return 0, 0
    try:
        # Opening makes a network file system ask its server for the size.
        with segment_path(folder, last).open("rb") as file:
            return last, os.fstat(file.fileno()).st_size
    except OSError as error:
        raise journal_error(segment_path(folder, last), "read", error) from error
