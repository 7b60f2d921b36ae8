"""A process that commits to a journal and is killed, or ends without closing it.

``python committing.py FILE steps`` commits ``GROUPS`` and dies; ``python committing.py FILE
forever`` commits pairs of entries until it is killed, and prints each once it is safe.
"""

from __future__ import annotations

import itertools
import os
import sys
from pathlib import Path

from sage_dask.journal.entries import Entry, Group, Memo
from sage_dask.journal.sqlite_store import SqliteStore


def entry(seq: int) -> Entry:
    """Return the entry of a place, of the size of an answer."""
    return Entry(seq, f"id-{seq * 7919 % 10007}", b"%08d" % seq, seq % 5 == 0, b"%0845d" % seq)


def group(number: int) -> Group:
    """Return what is committed at a step: some of everything."""
    places = range(4 * number, 4 * number + 4)
    return Group(
        [entry(seq) for seq in places],
        [Memo("embed", entry(seq + 4)) for seq in places],
        [b'{"step": %d}' % number],
        {"step": str(number), f"fact {number % 3}": "x" * number},
    )


GROUPS = [group(number) for number in range(40)]


def main() -> None:
    """Do what the command line says."""
    store = SqliteStore(Path(sys.argv[1]))
    if sys.argv[2] == "steps":
        for number, each in enumerate(GROUPS):
            store.commit(each)
            # The log is moved into the file twice: once early, and once with half a step to go.
            if number in (12, 30):
                store._db.execute("PRAGMA wal_checkpoint(PASSIVE)")
        os._exit(0)
    for number in itertools.count():
        store.commit(Group([entry(2 * number), entry(2 * number + 1)]))
        print(number, flush=True)


if __name__ == "__main__":
    main()
