"""The thread that commits."""

from __future__ import annotations

import threading

import pytest

from sage_dask.journal.entries import Entry, Group, Memo
from sage_dask.journal.store import JournalError
from sage_dask.journal.writer import Gathering, Writer

# Longer than any test: what happens does not happen because of time.
_NEVER_S = 3600.0


def _group(*places):
    return Group([Entry(seq, str(seq), b"", False, b"") for seq in places])


class _Store:
    """Notes commits; holds them while ``may_go`` is not set, and fails when told to."""

    def __init__(self):
        self.commits = []
        self.began = threading.Semaphore(0)
        self.may_go = threading.Event()
        self.may_go.set()
        self.error = None

    def commit(self, group):
        self.began.release()
        assert self.may_go.wait(30)
        if self.error is not None:
            raise self.error
        self.commits.append([entry.seq for entry in group.entries])


@pytest.fixture
def store():
    """Lend a store that notes commits."""
    return _Store()


def test_groups_wait_for_each_other():
    """Groups wait until they are enough, or the first has waited long enough."""
    gathering = Gathering(4)

    assert gathering.wait_s(100.0) is None
    gathering.add(_group(1), print, 102.0)
    gathering.add(_group(2), print, 103.5)
    assert gathering.wait_s(101.5) == 0.5
    assert gathering.wait_s(107.0) == 0.0
    gathering.add(Group(memos=[Memo("t", _group(n).entries[0]) for n in (3, 4)]), print, 103.5)
    assert gathering.wait_s(101.5) == 0.0


def test_a_group_that_has_time_waits_for_one_that_has_not():
    """It goes with the next commit, and by itself only if none comes."""
    gathering = Gathering(4)
    gathering.add(_group(), print, 110.0)
    alone_s = gathering.wait_s(100.0)

    gathering.add(_group(1), print, 102.0)
    together_s = gathering.wait_s(100.0)

    assert (alone_s, together_s) == (10.0, 2.0)
    assert len(gathering.take()) == 2
    assert gathering.wait_s(100.0) is None


def test_a_group_is_never_split():
    """A commit takes whole groups until they are enough; what is left waits on."""
    gathering = Gathering(4)
    for places in [(1, 2, 3), (4, 5, 6), (7,)]:
        gathering.add(_group(*places), print, 0.0)
    gathering.add(_group(*range(10, 20)), print, 1.0)

    sizes = []
    while taken := gathering.take():
        sizes.append([len(each.group.entries) for each in taken])

    assert sizes == [[3, 3], [1, 10]]
    assert gathering.wait_s(5.0) is None


def test_enough_records_are_committed_at_once(store):
    """Full commits happen without a flush, and groups are told in the order of putting."""
    writer, told, all_told = (
        Writer(store, max_records=2, max_wait_s=_NEVER_S),
        [],
        threading.Event(),
    )

    for seq in range(6):
        writer.put(_group(seq), lambda error, seq=seq: told.append((seq, error)))
    writer.put(_group(6, 7), lambda _: all_told.set())

    assert all_told.wait(30)
    assert told == [(seq, None) for seq in range(6)]
    assert [seq for commit in store.commits for seq in commit] == list(range(8))
    assert all(len(commit) == 2 for commit in store.commits)
    writer.close()


def test_few_records_are_committed_after_a_moment(store):
    """A group alone is committed without a flush."""
    writer, told = Writer(store, max_wait_s=0.001), threading.Event()

    writer.put(_group(1), lambda _: told.set())

    assert told.wait(30)
    writer.close()


def test_putting_does_not_wait_for_the_disk(store):
    """While a commit lasts groups can be put; they are told only once they are safe."""
    writer, told = Writer(store, max_records=1, max_wait_s=_NEVER_S), []
    store.may_go.clear()

    writer.put(_group(0), lambda _: told.append(0))
    assert store.began.acquire(timeout=30)
    for seq in range(1, 100):
        writer.put(_group(seq), lambda _, seq=seq: told.append(seq))

    assert told == []
    store.may_go.set()
    writer.flush()
    assert told == list(range(100))
    writer.close()


def test_flush_waits_for_what_was_put_before(store):
    """After a flush everything is safe, however few records wait; flushing nothing returns."""
    writer = Writer(store, max_wait_s=_NEVER_S)

    writer.flush()
    writer.put(_group(1), lambda _: None)
    writer.put(Group(facts={"a": "b"}), lambda _: None)
    writer.flush()
    writer.put(Group(events=[b"x"]), lambda _: None)
    writer.flush()

    assert store.commits == [[1], []]
    writer.close()


@pytest.mark.parametrize("error", [JournalError("disk full"), KeyError("a defect")])
def test_after_an_error_nothing_is_committed(store, error):
    """The group that failed and all later ones get one error; so do flush and close."""
    writer, told = Writer(store, max_records=1, max_wait_s=_NEVER_S), []
    writer.put(_group(0), told.append)
    writer.flush()
    store.error = error

    writer.put(_group(1), told.append)
    with pytest.raises(JournalError):
        writer.flush()
    store.error = None
    writer.put(_group(2), told.append)
    with pytest.raises(JournalError):
        writer.close()

    assert store.commits == [[0]]
    assert told[0] is None
    assert isinstance(told[1], JournalError)
    assert told[1] is told[2]
    assert error in (told[1], told[1].__cause__)


def test_a_callback_that_raises_stops_the_writer(store):
    """A defect of who waits is an error of the run, not the silent end of a thread."""
    writer = Writer(store, max_records=1)

    writer.put(_group(0), lambda _: 1 / 0)
    with pytest.raises(JournalError, match="ZeroDivisionError"):
        writer.flush()

    with pytest.raises(JournalError):
        writer.close()
    assert not any(thread.name == "journal-writer" for thread in threading.enumerate())


def test_closing_commits_what_waits_and_ends_the_thread(store):
    """Nothing is left behind by close; what comes after it is refused."""
    writer, told = Writer(store, max_wait_s=_NEVER_S), []
    for seq in range(100):
        writer.put(_group(seq), told.append)

    writer.close()
    writer.close()

    assert told == [None] * 100
    assert [seq for commit in store.commits for seq in commit] == list(range(100))
    assert not any(thread.name == "journal-writer" for thread in threading.enumerate())
    with pytest.raises(JournalError, match="closed"):
        writer.put(_group(0), told.append)
