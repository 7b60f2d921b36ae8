"""A disk that runs full while a journal is written, again and again, a little later each time.

``python disk_full.py FOLDER KILOBYTES MOST how`` leaves KILOBYTES, then as many more and so
on up to MOST, commits until that is used up, makes room, and resumes.  ``how`` is ``ballast``
(FOLDER is a small disk that is filled) or ``limit`` (files may not grow beyond).  Prints how
many commits were refused; anything that is wrong is an exception.
"""

from __future__ import annotations

import resource
import shutil
import sys
from pathlib import Path

from sage_dask.journal.entries import Entry, Group
from sage_dask.journal.high_water import read_mark
from sage_dask.journal.sqlite_store import SqliteStore
from sage_dask.journal.store import JournalError

GROUPS = [
    Group([Entry(seq, str(seq * 7919), b"", False, b"%0845d" % seq) for seq in range(at, at + 8)])
    for at in range(0, 1600, 8)
]


def leave(folder: Path, num_bytes: int, how: str) -> None:
    """Leave some bytes of room."""
    if how == "limit":
        resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, resource.RLIM_INFINITY))
        return
    ballast = max(0, shutil.disk_usage(folder).free - num_bytes)
    (folder / "ballast").write_bytes(bytes(ballast))


def make_room(folder: Path) -> None:
    """Leave all room there is."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    (folder / "ballast").unlink(missing_ok=True)


def fill(path: Path) -> tuple[int, int]:
    """Commit until the disk is full; return how many groups are safe, and how often it refused."""
    safe, refused = 0, 0
    try:
        store = SqliteStore(path)
    except JournalError:
        return 0, 1
    for group in GROUPS:
        try:
            store.commit(group)
            safe += 1
        except JournalError as error:
            if "space" not in str(error):
                raise
            refused += 1
            break
    if refused:
        assert len(list(store.entries())) == 8 * safe, "reading after a refusal"
        assert read_mark(path.with_name(f"{path.name}-commits")) <= safe, "refused, and counted"
        try:
            store.commit(GROUPS[safe])
            safe += 1
        except JournalError:
            refused += 1
    store.close()
    return safe, refused


def resume(path: Path, safe: int) -> None:
    """Check that nothing is lost, and commit the rest."""
    store = SqliteStore(path)
    held = list(store.entries())
    expected = [entry for group in GROUPS for entry in group.entries]
    # A commit that was refused at the last moment may be there, whole.
    assert len(held) in (8 * safe, 8 * safe + 8), f"{len(held)} entries of {8 * safe}"
    assert held == expected[: len(held)]
    for group in GROUPS[safe:]:
        store.commit(group)
    assert list(store.entries()) == expected
    store.close()
    assert list(path.parent.iterdir()) == [path]


def main() -> None:
    """Do what the command line says."""
    folder, step, most, how = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    total = 0
    for kilobytes in range(step, most + 1, step):
        leave(folder, kilobytes * 1024, how)
        run = folder / "run"
        try:
            run.mkdir()
            safe, refused = fill(run / "journal.db")
        except OSError:
            safe, refused = 0, 1
        make_room(folder)
        run.mkdir(exist_ok=True)
        resume(run / "journal.db", safe)
        shutil.rmtree(run)
        total += refused
    print(total)


if __name__ == "__main__":
    main()
