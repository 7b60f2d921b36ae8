"""Answers in a SQLite file: bounded, shared, and started anew when it is damaged."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sage_dask.endpoint.cache_file import (
    TOUCH_AFTER_S,
    CacheFile,
    ForeignFileError,
    is_damaged,
)
from sage_dask.testing import FakeClock

ROOM = 1 << 20


def key(number):
    """Return the key of a number."""
    return number.to_bytes(32, "big")


@pytest.fixture
def cache(tmp_path):
    """Lend an empty cache file, its clock at ``cache._clock``."""
    with_clock = CacheFile(tmp_path / "c.sqlite", max_bytes=ROOM, clock=FakeClock(1e9))
    yield with_clock
    with_clock.close()


def check_total(cache):
    """Check that the count that is kept is the count that is."""
    counted = cache._database.execute("SELECT count(*), ifnull(sum(bytes), 0) FROM entries")
    facts = cache.facts()
    assert counted.fetchone() == (facts.num_entries, facts.num_bytes)


def test_what_is_put_is_there(cache):
    """Values come back by key, and what is not there is left out."""
    cache.put({key(1): b"one", key(2): b"two"})

    assert cache.get([key(2), key(3), key(1)]) == {key(1): b"one", key(2): b"two"}
    assert cache.facts().num_entries == 2


def test_the_first_value_of_a_key_stays(cache):
    """Two processes that paid for the same answer agree on one of them."""
    cache.put({key(1): b"first"})
    cache.put({key(1): b"second"})

    assert cache.get([key(1)]) == {key(1): b"first"}
    check_total(cache)


def test_the_least_recently_used_make_room(cache):
    """When the bound is passed, what was not used for longest goes, and what was used stays."""
    value = bytes(100_000)
    for number in range(8):
        cache.put({key(number): value})
        cache._clock.advance(10)
    cache._clock.advance(TOUCH_AFTER_S)
    cache.get([key(0)])

    for number in range(8, 12):
        cache.put({key(number): value})

    there = [number for number in range(12) if cache.get([key(number)])]
    assert 0 in there
    assert there == [0, *range(12 - len(there) + 1, 12)]
    assert cache.facts().num_bytes <= ROOM
    check_total(cache)


def test_use_is_noted_once_in_a_while(cache):
    """A hit is a write only where the last use is long ago."""
    cache.put({key(1): b"one"})
    before = cache._database.total_changes

    cache._clock.advance(TOUCH_AFTER_S - 1)
    cache.get([key(1)])
    soon = cache._database.total_changes
    cache._clock.advance(1)
    cache.get([key(1)])

    assert soon == before
    assert cache._database.total_changes > before
    assert cache.facts().first_used_s == 1e9 + TOUCH_AFTER_S


def test_a_value_without_room_is_not_kept(cache):
    """One value larger than the whole cache does not drive all others out."""
    cache.put({key(1): b"one"})
    cache.put({key(2): bytes(ROOM)})

    assert cache.get([key(1), key(2)]) == {key(1): b"one"}


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 400_000)), max_size=20))
def test_the_bound_holds(tmp_path_factory, puts):
    """Whatever is put, the file's own count is right and within its bound."""
    cache = CacheFile(tmp_path_factory.mktemp("c") / "c.sqlite", max_bytes=ROOM)
    for number, size in puts:
        cache.put({key(number): bytes(size)})

        assert cache.facts().num_bytes <= ROOM
        check_total(cache)
    cache.close()


def test_removed_and_cleared_entries_are_gone(cache):
    """Entries go by key or all together, and the disk gets its room back."""
    cache.put({key(number): os.urandom(50_000) for number in range(10)})
    cache.remove([key(0), key(99)])
    after_one = cache.facts().num_entries

    num_cleared = cache.clear()

    assert (after_one, num_cleared, cache.facts().num_entries) == (9, 9, 0)
    assert sum(each.stat().st_size for each in cache.path.parent.iterdir()) < 100_000
    check_total(cache)


def test_the_file_is_its_owners_alone(cache):
    """Answers may be confidential: nobody else may read them."""
    cache.put({key(1): b"one"})

    modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in cache.path.parent.iterdir()}

    assert set(modes.values()) == {0o600}, modes


@pytest.mark.parametrize("damage", ["garbage", "header", "truncated"])
def test_a_damaged_file_is_moved_aside(tmp_path, damage):
    """A file that SQLite can not read is kept under another name, and a new one begun."""
    path = tmp_path / "c.sqlite"
    first = CacheFile(path, max_bytes=ROOM)
    first.put({key(number): os.urandom(5_000) for number in range(20)})
    first.close()
    whole = path.read_bytes()
    broken = {
        "garbage": b"no database at all, however long it is " * 200,
        "header": bytes(100) + whole[100:],
        "truncated": whole[:5_000],
    }[damage]
    path.write_bytes(broken)

    cache = CacheFile(path, max_bytes=ROOM)
    cache.put({key(1): b"one"})

    assert cache.get([key(1)]) == {key(1): b"one"}
    (aside,) = tmp_path.glob("c.sqlite.broken-*")
    assert aside.read_bytes() == broken
    cache.close()


def test_damage_that_is_met_later_is_moved_aside_once(tmp_path):
    """Two processes meet the same damage; the second leaves the new file of the first alone."""
    path = tmp_path / "c.sqlite"
    one = CacheFile(path, max_bytes=ROOM)
    one.put({key(number): os.urandom(5_000) for number in range(40)})
    one._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    other = CacheFile(path, max_bytes=ROOM)
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (path.stat().st_size - 4096))

    with pytest.raises(sqlite3.DatabaseError) as met:
        other.get([key(number) for number in range(40)])
    one.abandon()
    fresh = CacheFile(path, max_bytes=ROOM)
    fresh.put({key(1): b"new"})
    other.abandon()

    assert is_damaged(met.value)
    assert CacheFile(path, max_bytes=ROOM).get([key(1)]) == {key(1): b"new"}
    assert len(list(tmp_path.glob("c.sqlite.broken-*[0-9]"))) == 1


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        ("CREATE TABLE theirs (x)", "is another program's database"),
        (None, "has the format of version 9"),
    ],
)
def test_what_is_not_ours_is_left_alone(tmp_path, statement, says):
    """A database of another program or version is refused, and not moved."""
    path = tmp_path / "c.sqlite"
    if statement is None:
        CacheFile(path, max_bytes=ROOM).close()
        statement = "PRAGMA user_version = 9"
    database = sqlite3.connect(path)
    database.execute(statement)
    database.commit()
    database.close()
    before = path.read_bytes()

    with pytest.raises(ForeignFileError, match=says):
        CacheFile(path, max_bytes=ROOM)

    assert path.read_bytes() == before
    assert not list(tmp_path.glob("*.broken-*"))


WRITER = """
import sys
from pathlib import Path
from sage_dask.endpoint.cache_file import CacheFile
cache = CacheFile(Path(sys.argv[1]), max_bytes=1 << 26)
print("ready", flush=True)
sys.stdin.readline()
for number in range(int(sys.argv[2]), int(sys.argv[3])):
    cache.put({number.to_bytes(32, "big"): sys.argv[4].encode() * 2000})
    print(number, flush=True)
"""


def writer(path, first, last, text):
    """Start a process that writes values one by one and says which it has written."""
    words = [sys.executable, "-c", WRITER, str(path), str(first), str(last), text]
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    return process


def test_a_kill_in_the_middle_loses_nothing_that_was_kept(tmp_path):
    """Whatever a process had written before kill -9 is there, and the file goes on."""
    path = tmp_path / "c.sqlite"
    process = writer(path, 0, 100_000, "x")
    process.stdin.write("go\n")
    process.stdin.flush()
    told = [int(process.stdout.readline()) for _ in range(30)]
    process.kill()
    process.communicate(timeout=30)

    cache = CacheFile(path, max_bytes=1 << 26)
    cache.put({key(200_000): b"later"})

    assert cache.get([key(number) for number in told]) == {key(n): b"x" * 2000 for n in told}
    assert cache._database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert cache.get([key(200_000)])
    check_total(cache)
    cache.close()


def test_two_processes_write_the_same_keys(tmp_path):
    """Both go on, each key has one whole value, and the count is right."""
    path = tmp_path / "c.sqlite"
    processes = [writer(path, 0, 150, text) for text in "ab"]
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        process.communicate(timeout=60)

    cache = CacheFile(path, max_bytes=1 << 26)
    values = cache.get([key(number) for number in range(150)])

    assert [process.returncode for process in processes] == [0, 0]
    assert len(values) == 150
    assert set(values.values()) <= {b"a" * 2000, b"b" * 2000}
    check_total(cache)
    cache.close()
