"""The thread that commits: groups gather for a moment, because a commit costs a sync."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from sage_dask.journal.entries import Group
from sage_dask.journal.store import JournalError, Store


class _Waiting(NamedTuple):
    """A group that is not committed yet."""

    group: Group
    done: Callable[[JournalError | None], None]
    due_s: float
    """When it is committed even if no others come."""


class Gathering:
    """The groups that wait, and when they have waited enough.

    Args:
        max_records: Entries and memos that are committed without waiting for more.
    """

    def __init__(self, max_records: int) -> None:
        self._max_records = max_records
        self._waiting: deque[_Waiting] = deque()
        self._num_records = 0
        self._due_s = math.inf

    def add(self, group: Group, done: Callable[[JournalError | None], None], due_s: float) -> None:
        """Have a group wait for others, until a time at the latest."""
        self._waiting.append(_Waiting(group, done, due_s))
        self._num_records += _num_records(group)
        self._due_s = min(self._due_s, due_s)

    def wait_s(self, now_s: float) -> float | None:
        """Return how long to wait for more, at least 0; None where nothing waits."""
        if not self._waiting:
            return None
        if self._num_records >= self._max_records:
            return 0.0
        return max(0.0, self._due_s - now_s)

    def take(self) -> list[_Waiting]:
        """Return the groups of one commit: whole ones, until they are enough."""
        taken: list[_Waiting] = []
        num_records = 0
        while self._waiting and num_records < self._max_records:
            taken.append(self._waiting.popleft())
            num_records += _num_records(taken[-1].group)
        self._num_records -= num_records
        self._due_s = min((waiting.due_s for waiting in self._waiting), default=math.inf)
        return taken


def _num_records(group: Group) -> int:
    return len(group.entries) + len(group.memos)


class Writer:
    """Commits groups in the order in which they are put.

    After an error nothing more is committed: every later group gets the same error.

    Args:
        store: Not closed by the writer.
        max_records: Entries and memos that are committed without waiting for more.
        max_wait_s: How long a group waits for others.
        patience_s: How long one waits that has time.
    """

    def __init__(
        self,
        store: Store,
        *,
        max_records: int = 64,
        max_wait_s: float = 0.02,
        patience_s: float = 1.0,
    ) -> None:
        self._store = store
        self._max_wait_s = max_wait_s
        self._patience_s = patience_s
        self._gathering = Gathering(max_records)
        self._changed = threading.Condition()
        self._num_put = 0
        self._num_settled = 0
        self._num_hurried = 0
        self._error: JournalError | None = None
        self._is_closed = False
        # A daemon, so that a program that forgot to close still ends.
        self._thread = threading.Thread(target=self._run, name="journal-writer", daemon=True)
        self._thread.start()

    def put(
        self,
        group: Group,
        done: Callable[[JournalError | None], None],
        *,
        has_time: bool = False,
    ) -> None:
        """Have a group committed soon; never blocks.

        Args:
            group: Committed as a whole, together with its neighbours.
            done: Called by the writer's thread in the order of putting, with None once the
                group is safe, or with the error for which it is not.  It must not raise.
            has_time: Nobody waits for the group: it need not cost a commit of its own.

        Raises:
            JournalError: The writer is closed.
        """
        with self._changed:
            if self._is_closed:
                raise JournalError("the journal is closed; put before close()")
            wait_s = self._patience_s if has_time else self._max_wait_s
            self._gathering.add(group, done, time.monotonic() + wait_s)
            self._num_put += 1
            self._changed.notify_all()

    def flush(self) -> None:
        """Wait until everything that was put before is safe.

        Raises:
            JournalError: Something of it could not be written.
        """
        with self._changed:
            target = self._num_hurried = self._num_put
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._num_settled >= target)
            if self._error is not None:
                raise self._error

    def close(self) -> None:
        """Commit what was put, and end the thread; closing again does nothing.

        Raises:
            JournalError: Something of it could not be written.
        """
        with self._changed:
            was_closed, self._is_closed = self._is_closed, True
            self._changed.notify_all()
        self._thread.join()
        if self._error is not None and not was_closed:
            raise self._error

    def _run(self) -> None:
        while taken := self._next():
            if self._error is None:
                self._error = self._committed([waiting.group for waiting in taken])
            for waiting in taken:
                self._tell(waiting)
            with self._changed:
                self._num_settled += len(taken)
                self._changed.notify_all()

    def _next(self) -> list[_Waiting]:
        """Wait for the groups of one commit; none at the end."""
        with self._changed:
            while (wait_s := self._gathering.wait_s(time.monotonic())) != 0.0:
                if self._is_closed or self._num_hurried > self._num_settled:
                    break
                self._changed.wait(wait_s)
            return self._gathering.take()

    def _committed(self, groups: list[Group]) -> JournalError | None:
        """Commit groups as one, and return what went wrong."""
        try:
            self._store.commit(Group.joined(groups))
        except JournalError as error:
            return error
        # A defect, but those who wait for the groups must hear of it.
        except Exception as error:
            wrapped = JournalError(f"the journal can not be written ({error!r})")
            wrapped.__cause__ = error
            return wrapped
        return None

    def _tell(self, waiting: _Waiting) -> None:
        try:
            waiting.done(self._error)
        except Exception as error:
            self._error = self._error or JournalError(
                f"{waiting.done!r} raised {error!r} when it was told of a commit; it must not raise"
            )
