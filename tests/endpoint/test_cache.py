"""Answers that were paid for once, and a cache that no record ever fails of."""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
from pathlib import Path

import pytest

from sage_dask.endpoint.cache import (
    RETRY_AFTER_S,
    ResponseCache,
    default_path,
    response_key,
    should_cache,
)
from sage_dask.testing import FakeClock

BODY = {
    "model": "m",
    "messages": [{"role": "user", "content": "Wörter\n\ud800"}],
    "temperature": 0,
    "max_tokens": 5,
}
KEY = response_key("chat", BODY)
ANSWER = {"choices": [{"message": {"content": "yes"}}], "usage": {"total_tokens": 3}}


@pytest.fixture
def path(tmp_path):
    """Return where the cache of a test lies."""
    return tmp_path / "cache" / "responses.sqlite"


@pytest.fixture
def opened(path):
    """Lend a function that makes caches on one file, as processes of a host would."""
    caches = []

    def make(**options):
        caches.append(ResponseCache(path, **options))
        return caches[-1]

    yield make
    for cache in caches:
        cache.close()


def warnings(caplog):
    """Return the warnings that were logged."""
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_an_answer_is_found_by_the_next_process(opened):
    """What was put is got, in this cache and in another one on the same file."""

    async def use():
        cache = opened()
        before = await cache.get(KEY)
        await cache.put(KEY, ANSWER)
        return before, await cache.get(KEY), await opened().get(KEY), cache.statistics()

    before, same, other, statistics = asyncio.run(use())

    assert before is None
    assert same == other == ANSWER
    assert (statistics.hits, statistics.misses, statistics.stored) == (1, 1, 1)
    assert statistics.fault == ""


def test_hundreds_ask_at_once(opened):
    """Requests of a whole batch are answered, each with its own."""

    async def use():
        cache = opened()
        keys = [response_key("chat", {"n": number}) for number in range(600)]
        await asyncio.gather(*(cache.put(key, number + 1) for number, key in enumerate(keys)))
        return await asyncio.gather(*(cache.get(key) for key in keys))

    assert asyncio.run(use()) == list(range(1, 601))


def test_keys_are_of_what_is_asked_and_nothing_else():
    """Order of keys, streaming and the way a number is written change nothing; all else does."""
    same = [
        dict(reversed(BODY.items())),
        {**BODY, "temperature": 0.0},
        {**BODY, "stream": True, "stream_options": {"include_usage": True}},
    ]
    others = [
        response_key("completions", BODY),
        *(
            response_key("chat", {**BODY, **change})
            for change in (
                {"model": "n"},
                {"temperature": 0.5},
                {"seed": 1},
                {"max_tokens": None},
                {"messages": [{"role": "system", "content": "Wörter\n\ud800"}]},
                {"messages": [*BODY["messages"], {"role": "user", "content": ""}]},
                {"messages": "Wörter"},
                {"logprobs": True},
                {"logprobs": 1},
            )
        ),
    ]

    assert {response_key("chat", body) for body in same} == {KEY}
    assert len({KEY, *others}) == 1 + len(others)


@pytest.mark.parametrize(
    ("temperature", "seed", "asked", "wanted"),
    [
        (0, None, None, True),
        (0.0, None, None, True),
        (0.7, 1, None, True),
        (None, 0, None, True),
        (0.7, None, None, False),
        (None, None, None, False),
        (0.7, None, True, True),
        (0, 1, False, False),
    ],
)
def test_only_what_would_come_out_the_same_is_kept_unasked(temperature, seed, asked, wanted):
    """Temperature 0 or a seed turn it on, and what the user says beats both."""
    assert should_cache(temperature, seed, asked) is wanted


def test_the_default_lies_in_the_users_cache_folder(monkeypatch, tmp_path):
    """The variable of the XDG specification is followed, and a relative one is ignored."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    told = default_path()
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")

    assert told == tmp_path / "sage-dask" / "responses.sqlite"
    assert default_path() == Path.home() / ".cache" / "sage-dask" / "responses.sqlite"


@pytest.mark.parametrize("answer", [None, {"text": {1, 2}}, object()])
def test_what_json_can_not_say_is_not_kept(opened, answer):
    """An odd answer is counted as not stored, and its neighbours in the group are stored."""

    async def use():
        cache = opened()
        other = response_key("chat", {})
        await asyncio.gather(cache.put(KEY, answer), cache.put(other, ANSWER))
        return await cache.get(KEY), await cache.get(other), cache.statistics()

    odd, other, statistics = asyncio.run(use())

    assert (odd, other) == (None, ANSWER)
    assert (statistics.stored, statistics.not_stored, statistics.fault) == (1, 1, "")


def test_a_damaged_answer_is_a_miss_and_makes_room(opened, path):
    """One value that can not be read is forgotten, and can be put again."""

    async def use():
        cache = opened()
        await cache.put(KEY, ANSWER)
        with sqlite3.connect(path) as database:
            database.execute("UPDATE entries SET value = x'00'")
        database.close()
        damaged = await cache.get(KEY)
        await cache.put(KEY, {"new": 1})
        return damaged, await cache.get(KEY)

    assert asyncio.run(use()) == (None, {"new": 1})


def test_a_locked_file_costs_the_putting_and_not_the_getting(opened, path, caplog, monkeypatch):
    """While another process holds the file, answers are found but not kept, with one warning."""
    monkeypatch.setattr("sage_dask.endpoint.cache_file.BUSY_S", 0.05)
    clock = FakeClock()

    async def use():
        cache = opened(monotonic=clock)
        await cache.put(KEY, ANSWER)
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        await cache.put(b"1", ANSWER)
        await cache.put(b"2", ANSWER)
        while_locked = await cache.get(KEY), cache.statistics()
        other.close()
        clock.advance(RETRY_AFTER_S)
        await cache.put(b"3", ANSWER)
        return while_locked, await cache.get(b"3"), cache.statistics()

    (found, locked), later, statistics = asyncio.run(use())

    assert found == later == ANSWER
    assert (locked.stored, locked.not_stored, locked.is_off) == (1, 2, True)
    assert (statistics.stored, statistics.is_off) == (2, False)
    assert "locked" in statistics.fault
    (warning,) = warnings(caplog)
    assert "can not be written (OperationalError: database is locked)" in warning


def test_a_full_disk_costs_the_putting_alone(opened, path, caplog):
    """Where there is no room nothing more is kept, nothing fails, and what is there is found."""

    async def use():
        cache = opened()
        await cache.put(KEY, ANSWER)
        # SQLite's own limit raises what a full disk raises.
        cache._file._database.execute("PRAGMA max_page_count = 10")
        await cache.put(b"1", {"text": os.urandom(500_000).hex()})
        return await cache.get(b"1"), await cache.get(KEY), cache.statistics()

    absent, found, statistics = asyncio.run(use())

    assert (absent, found) == (None, ANSWER)
    assert "database or disk is full" in statistics.fault
    assert len(warnings(caplog)) == 1


@pytest.mark.parametrize("place", ["a file instead of a folder", "a folder instead of a file"])
def test_a_place_that_can_not_be_is_no_cache(tmp_path, caplog, place):
    """Where there can be no file, every answer is a miss, nothing raises, and one warning tells."""
    path = tmp_path / "p" / "c.sqlite"
    if place.startswith("a file"):
        (tmp_path / "p").touch()
    else:
        path.mkdir(parents=True)

    async def use():
        cache = ResponseCache(path)
        await cache.put(KEY, ANSWER)
        found = await cache.get(KEY), await cache.get(KEY)
        cache.close()
        return found, cache.statistics()

    found, statistics = asyncio.run(use())

    assert found == (None, None)
    assert (statistics.misses, statistics.not_stored) == (2, 1)
    (warning,) = warnings(caplog)
    assert str(path) in warning


def test_a_damaged_file_is_started_anew(opened, path, caplog):
    """Garbage in the file's place is moved aside, and the cache works at once."""
    path.parent.mkdir()
    path.write_bytes(b"garbage" * 1000)

    async def use():
        cache = opened()
        await cache.put(KEY, ANSWER)
        return await cache.get(KEY)

    assert asyncio.run(use()) == ANSWER
    assert [each.read_bytes()[:7] for each in path.parent.glob("*.broken-*")] == [b"garbage"]


def test_damage_that_is_met_in_the_middle_is_moved_aside(opened, path, caplog):
    """A file that breaks while it is used is a miss, and a new one is begun a while later."""
    clock = FakeClock()

    async def use():
        cache = opened(monotonic=clock)
        for number in range(60):
            await cache.put(bytes([number]), {"text": os.urandom(2_000).hex()})
        cache.close()
        size = path.stat().st_size
        await cache.get(b"none")
        with path.open("r+b") as file:
            file.seek(4096)
            file.write(b"\xff" * (size - 4096))
        damaged = [await cache.get(bytes([number])) for number in range(60)]
        clock.advance(RETRY_AFTER_S)
        await cache.put(KEY, ANSWER)
        return damaged, await cache.get(KEY)

    damaged, later = asyncio.run(use())

    assert None in damaged
    assert later == ANSWER
    assert len(list(path.parent.glob("*.broken-*[0-9]"))) == 1
    assert len(warnings(caplog)) == 1


def test_a_disk_that_hangs_does_not_hang_the_requests(opened, monkeypatch, caplog):
    """Who asks waits so long and no longer, and the others do not wait at all."""
    monkeypatch.setattr("sage_dask.endpoint.cache._DEADLINE_S", 0.05)

    async def use():
        cache = opened()
        stuck = asyncio.Event()
        loop = asyncio.get_running_loop()
        hang = asyncio.run_coroutine_threadsafe
        monkeypatch.setattr(cache, "_opened", lambda: hang(stuck.wait(), loop).result(10))
        found = await cache.get(KEY), await cache.get(KEY)
        stuck.set()
        return found, cache.statistics()

    found, statistics = asyncio.run(use())

    assert found == (None, None)
    assert "no answer within" in statistics.fault
    assert statistics.is_off


def test_a_forked_child_uses_the_cache_and_leaves_its_parents_alone(opened):
    """A child that was forked from a process with an open cache opens the file for itself."""

    async def put(cache, key):
        await cache.put(key, ANSWER)
        return await cache.get(key)

    cache = opened()
    asyncio.run(put(cache, KEY))
    child = os.fork()
    if child == 0:
        try:
            found = asyncio.run(put(cache, b"child"))
            cache.close()
            os._exit(0 if found == ANSWER else 1)
        finally:
            os._exit(2)
    _, status = os.waitpid(child, 0)

    async def look():
        return await cache.get(b"child"), await put(cache, b"parent")

    assert os.waitstatus_to_exitcode(status) == 0
    assert asyncio.run(look()) == (ANSWER, ANSWER)


def test_no_key_is_ever_written(opened, path):
    """Neither headers nor endpoints are part of what is kept: there is no way to give them."""

    async def use():
        await opened().put(KEY, ANSWER)

    asyncio.run(use())
    with sqlite3.connect(path) as database:
        columns = database.execute("SELECT name FROM pragma_table_info('entries')").fetchall()
    database.close()

    assert [name for (name,) in columns] == ["id", "key", "value", "bytes", "used_s"]
    assert b"W\xc3\xb6rter" not in b"".join(
        each.read_bytes() for each in path.parent.iterdir() if each.is_file()
    )


def test_the_state_is_told(opened, path):
    """The representation says how much use it was."""

    async def use():
        cache = opened()
        await cache.get(KEY)
        return repr(cache)

    assert asyncio.run(use()) == f"<ResponseCache {str(path)!r} 0 of 1 were there>"
