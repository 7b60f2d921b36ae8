"""The journal of one run, open for writing by this process and no other."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from sage_dask.journal.entries import Group
from sage_dask.journal.lock import RunLock
from sage_dask.journal.opening import open_store
from sage_dask.journal.store import JournalError, Store
from sage_dask.journal.writer import Writer


class Journal:
    """Takes groups, and tells once they are safe.

    Args:
        folder: Of the run; made if it is not there.

    Raises:
        JournalError: The folder can not be written, or another process holds the run.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise JournalError(
                f"run folder {str(folder)!r} can not be made ({error.strerror}); give another "
                "run_dir"
            ) from error
        self._lock = RunLock(folder)
        try:
            self.store: Store = open_store(folder)
            try:
                self.epoch = self.store.begin()
            except BaseException:
                self.store.close()
                raise
        except BaseException:
            self._lock.release()
            raise
        self._writer = Writer(self.store)

    def put(
        self,
        group: Group,
        done: Callable[[JournalError | None], None],
        *,
        has_time: bool = False,
    ) -> None:
        """Have a group committed soon, or with the next one that is put if it has time.

        ``done`` is called by another thread once it is.
        """
        self._writer.put(group, done, has_time=has_time)

    def commit(self, group: Group) -> None:
        """Commit a group behind all that was put, and return once it is safe.

        Raises:
            JournalError: It could not be written.
        """
        self._writer.put(group, lambda _: None)
        self._writer.flush()

    def flush(self) -> None:
        """Wait until all that was put is safe.

        Raises:
            JournalError: It could not be written.
        """
        self._writer.flush()

    def forget(self, places: Iterable[int], group: Group) -> None:
        """Remove the entries of some places and commit a group, in one go, behind all else."""
        self._writer.flush()
        self.store.forget(places, group)

    def renumber(self, places: Iterable[tuple[int, int]], group: Group) -> None:
        """Give entries other places, ``(old, new)``, and commit a group, in one go."""
        self._writer.flush()
        self.store.renumber(places, group)

    def close(self) -> None:
        """Commit what was put, and let go of the run.

        Raises:
            JournalError: Something of it could not be written.
        """
        try:
            self._writer.close()
        finally:
            self.store.close()
            self._lock.release()

    def __repr__(self) -> str:
        return f"<Journal {str(self.folder)!r}, start {self.epoch}>"
