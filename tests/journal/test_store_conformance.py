"""What every store does, whatever it keeps the journal in."""

from __future__ import annotations

import tempfile
import threading
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sage_dask.journal.entries import EPOCH, FORMAT, Group, Memo
from sage_dask.journal.store import JournalError


def test_what_was_committed_is_there_after_reopening(open_in, tmp_path, contents, entry):
    """Entries, memos, events and facts come back as they were, in their order."""
    odd = [
        entry(0, None, digest=b"", body=b""),
        entry(2, "\ud800\0 ä", is_failed=True, body=bytes(range(256)) * 40),
        entry(1, "e" * 5000),
    ]
    memos = [Memo("embed\udfff", entry(9)), Memo("", entry(7, None))]
    store = open_in(tmp_path)
    store.commit(Group(odd, memos, [b'{"a":1}', b""], {"plan\ud800": "x\0y", "": ""}))
    before = contents(store)
    store.close()

    store = open_in(tmp_path)

    assert contents(store) == before
    assert before.entries == [odd[0], odd[2], odd[1]]
    assert before.memos == memos[::-1]
    assert before.events == [b'{"a":1}', b""]
    assert before.facts == {"plan\ud800": "x\0y", "": ""}
    store.close()


def test_the_first_of_a_place_and_of_an_id_stays(store, contents, entry):
    """Later entries of a place, or of an id, change nothing; rows without id never collide."""
    first = [entry(0, "a"), entry(1, None), entry(2, None)]
    store.commit(Group(first))

    store.commit(Group([entry(0, "b"), entry(3, "a"), entry(1, "c", is_failed=True)]))

    assert contents(store).entries == first


def test_a_memo_stays_until_its_entry_comes(store, contents, entry):
    """The last memo of a place counts, and none beside or after an entry."""
    store.commit(Group(memos=[Memo("embed", entry(n)) for n in range(4)]))
    store.commit(Group(memos=[Memo("rerank", entry(1, body=b"new"))]))

    store.commit(Group([entry(0), entry(3)], memos=[Memo("late", entry(3))]))
    store.commit(Group(memos=[Memo("late", entry(0))]))

    assert contents(store).memos == [Memo("rerank", entry(1, body=b"new")), Memo("embed", entry(2))]


def test_marks_begin_after_a_place(store, entry):
    """Marks of higher places alone are given, also across pages."""
    store.commit(Group([entry(seq) for seq in range(0, 6000, 2)]))

    assert [mark.seq for mark in store.marks(after=3000)] == list(range(3002, 6000, 2))
    assert not list(store.marks(after=5998))


def test_forgotten_places_can_be_filled_again(store, contents, entry):
    """Forgetting removes entries and memos, frees their ids, and goes with its group."""
    store.commit(Group([entry(0), entry(1, is_failed=True)], [Memo("t", entry(2))]))

    store.forget([1, 2, 77], Group([entry(5, "1")], facts={"a": "b"}))

    held = contents(store)
    assert (held.entries, held.memos, held.facts) == ([entry(0), entry(5, "1")], [], {"a": "b"})


def test_places_can_be_exchanged(store, contents, entry):
    """Renumbering moves entries and memos, also to places that others are leaving."""
    store.commit(Group([entry(0), entry(1), entry(2)], [Memo("t", entry(3))]))

    store.renumber(iter([(0, 1), (1, 3), (3, 0)]), Group([entry(9)]))

    held = contents(store)
    moved = [entry(0, seq=1), entry(2), entry(1, seq=3), entry(9)]
    assert held.entries == moved
    assert held.memos == [Memo("t", entry(3, seq=0))]


def test_two_entries_can_not_share_a_place(store, contents, entry):
    """A renumbering onto a place that stays is refused and changes nothing."""
    store.commit(Group([entry(0), entry(1)]))
    before = contents(store)

    with pytest.raises(JournalError):
        store.renumber([(0, 1)], Group([entry(7)]))

    assert contents(store) == before
    store.commit(Group([entry(7)]))
    assert store.counts().num_entries == 3


def test_an_iterator_lets_commits_go_on(store, entry):
    """What was there when an iterator was made is given, although commits happen meanwhile."""
    store.commit(Group([entry(seq) for seq in range(3000)]))
    seen = []

    for number, mark in enumerate(store.marks()):
        seen.append(mark.seq)
        if number % 1000 == 0:
            store.commit(Group([entry(100_000 + number)]))

    assert seen[:3000] == list(range(3000))


def test_any_thread_may_read_and_commit(store, entry):
    """Threads that commit and read at once lose nothing and see whole groups."""
    errors = []

    def work(number):
        try:
            for step in range(20):
                seq = 2 * (number * 20 + step)
                store.commit(Group([entry(seq), entry(seq + 1)]))
                assert store.counts().num_entries % 2 == 0
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert not errors
    assert store.counts().num_entries == 160


def test_a_later_start_takes_the_run_over(open_in, tmp_path, contents, entry):
    """Once a later start has committed, the earlier one can commit no more, and can read."""
    first = open_in(tmp_path)
    first.begin()
    first.commit(Group([entry(0)]))
    second = open_in(tmp_path)
    second.begin()

    with pytest.raises(JournalError, match="another process has taken over the run"):
        first.commit(Group([entry(1)]))
    with pytest.raises(JournalError, match="another process has taken over the run"):
        first.forget([0], Group())

    second.commit(Group([entry(2)]))
    second.close()
    first.close()
    store = open_in(tmp_path)
    assert [held.seq for held in contents(store).entries] == [0, 2]
    store.close()


def test_starts_are_counted(open_in, tmp_path):
    """The first start is 1, and each later one finds the number of the one before."""
    starts = []
    for _ in range(3):
        with closing(open_in(tmp_path)) as store:
            starts.append((store.begin(), store.facts()[EPOCH]))

    assert starts == [(1, "1"), (2, "2"), (3, "3")]


def test_a_start_is_never_made_twice(open_in, tmp_path, contents, entry):
    """Of two processes that looked at the same time, the later one is the later start."""
    first, second = open_in(tmp_path), open_in(tmp_path)

    starts = first.begin(), second.begin()

    assert starts == (1, 2)
    with pytest.raises(JournalError, match="another process has taken over the run"):
        first.commit(Group([entry(0)]))
    second.commit(Group([entry(1)]))
    assert contents(second).entries == [entry(1)]
    first.close()
    second.close()


def test_a_reader_sees_what_is_committed_and_changes_nothing(open_in, tmp_path, contents, entry):
    """A store opened for reading while another writes tells whole commits, and refuses to write."""
    store = open_in(tmp_path)
    store.commit(Group([entry(0)], events=[b"e"]))

    reader = open_in(tmp_path, read_only=True)

    assert contents(reader) == contents(store)
    with pytest.raises(JournalError):
        reader.commit(Group([entry(1)]))
    assert contents(reader) == contents(store)
    reader.close()
    store.commit(Group([entry(1)]))
    store.close()


def test_nothing_stays_open(open_in, tmp_path, entry):
    """Opening, reading and closing leaves no descriptor behind; closing again does nothing."""
    before = len(list(Path("/proc/self/fd").iterdir()))

    for seq in range(3):
        store = open_in(tmp_path)
        store.commit(Group([entry(seq)]))
        next(store.marks())
        store.close()
        store.close()
        reader = open_in(tmp_path, read_only=True)
        reader.close()

    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_the_form_is_a_fact(store):
    """A store says in which form it keeps things."""
    assert store.facts()[FORMAT]


class _Model:
    """A store of plain dicts."""

    def __init__(self):
        self.entries, self.memos, self.events, self.facts = {}, {}, [], {}

    def commit(self, group):
        for entry in group.entries:
            ids = {held.id for held in self.entries.values()} - {None}
            if entry.seq not in self.entries and entry.id not in ids:
                self.entries[entry.seq] = entry
                self.memos.pop(entry.seq, None)
        for memo in group.memos:
            if memo.entry.seq not in self.entries:
                self.memos[memo.entry.seq] = memo
        self.events += group.events
        self.facts |= group.facts

    def forget(self, places, group):
        for seq in places:
            self.entries.pop(seq, None)
            self.memos.pop(seq, None)
        self.commit(group)

    def renumber(self, places, group):
        new = dict(places)
        moved = {new.get(seq, seq): held for seq, held in self.entries.items()}
        self.entries = {seq: held._replace(seq=seq) for seq, held in moved.items()}
        self.memos = {
            new.get(seq, seq): memo._replace(entry=memo.entry._replace(seq=new.get(seq, seq)))
            for seq, memo in self.memos.items()
        }
        self.commit(group)

    def contents(self):
        return (
            [self.entries[seq] for seq in sorted(self.entries)],
            [self.memos[seq] for seq in sorted(self.memos)],
            self.events,
            self.facts,
        )


_PLACES = st.integers(0, 7)
_BODIES = st.binary(max_size=8)
_IDS = st.none() | st.sampled_from("abcdef")
_GROUPS = st.builds(
    dict,
    entries=st.lists(st.tuples(_PLACES, _IDS, st.booleans(), _BODIES), max_size=3),
    memos=st.lists(st.tuples(st.sampled_from(["t", "u"]), _PLACES, _IDS, _BODIES), max_size=3),
    events=st.lists(_BODIES.filter(lambda line: b"\n" not in line), max_size=2),
    facts=st.dictionaries(st.sampled_from("xyz"), st.text(max_size=3), max_size=2),
)
_STEPS = st.lists(
    st.tuples(st.just("commit"), st.none(), _GROUPS)
    | st.tuples(st.just("forget"), st.lists(_PLACES, max_size=3), _GROUPS)
    | st.tuples(st.just("renumber"), st.permutations(range(8)), _GROUPS)
    | st.tuples(st.just("reopen"), st.none(), st.none()),
    max_size=8,
)


@given(steps=_STEPS)
@settings(max_examples=60)
def test_a_store_agrees_with_plain_dicts(open_in, contents, entry, steps):
    """Any sequence of commits, forgetting, renumbering and reopening leaves what a dict would."""

    def group(of):
        entries = [entry(n, i, is_failed=f, body=b) for n, i, f, b in of["entries"]]
        memos = [Memo(t, entry(n, i, body=b)) for t, n, i, b in of["memos"]]
        return Group(entries, memos, of["events"], of["facts"])

    with tempfile.TemporaryDirectory() as folder:
        store, model = open_in(Path(folder)), _Model()
        for action, places, of in steps:
            if action == "reopen":
                store.close()
                store = open_in(Path(folder))
            elif action == "commit":
                store.commit(group(of))
                model.commit(group(of))
            else:
                named = list(enumerate(places)) if action == "renumber" else places
                getattr(store, action)(named, group(of))
                getattr(model, action)(named, group(of))
            assert contents(store) == model.contents()
        store.close()


@given(st.lists(_GROUPS, max_size=5))
def test_groups_can_be_joined(entry, groups):
    """Committing groups as one leaves what committing them in turn leaves."""
    made = [
        Group(
            [entry(n, i, is_failed=f, body=b) for n, i, f, b in of["entries"]],
            [Memo(t, entry(n, i, body=b)) for t, n, i, b in of["memos"]],
            of["events"],
            of["facts"],
        )
        for of in groups
    ]
    joined, in_turn = _Model(), _Model()

    joined.commit(Group.joined(made))
    for group in made:
        in_turn.commit(group)

    assert joined.contents() == in_turn.contents()
