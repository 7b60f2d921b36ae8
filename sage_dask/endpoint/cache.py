"""Answers that were paid for once: a cache on disk that never fails and never blocks a request.

One thread per cache talks with the file, a group of requests at a time, so the
event loop never waits for a disk.  Whatever goes wrong there, a request is sent
as if there were no cache, and one warning says so.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import math
import os
import time
import zlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from sage_dask.endpoint.cache_file import CacheFile, is_damaged
from sage_dask.endpoint.grouped import GroupedThread

_log = logging.getLogger(__name__)

MAX_BYTES = 1 << 30

# Requests answered in one go; SQLite takes up to 32,766 keys in a question.
_GROUP = 256
# Longer than the file's own patience: only a disk that hangs takes this long.
_DEADLINE_S = 10.0
# A disk may be given room, and a lock be let go, while a run of hours goes on.
RETRY_AFTER_S = 60.0

# How an answer travels, which is no part of what was asked.
_TRANSPORT = frozenset({"stream", "stream_options"})


def response_key(kind: str, body: Mapping[str, Any]) -> bytes:
    """Return the key of a request: equal wherever it is sent, and for nothing else.

    Args:
        kind: What is asked for: ``"chat"``, ``"completions"``, ``"embeddings"``, ``"rerank"``.
        body: The request's JSON: model, messages and all parameters.
    """
    asked = {name: _number(value) for name, value in body.items() if name not in _TRANSPORT}
    text = json.dumps([kind, asked], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).digest()


def should_cache(temperature: float | None, seed: int | None, asked: bool | None) -> bool:
    """Return whether answers are worth keeping: where asking again would give the same.

    Args:
        temperature: Of the sampling; None leaves it to the server, which then draws.
        seed: Of the sampling, if it is fixed.
        asked: What the user says; None says nothing.
    """
    if asked is not None:
        return asked
    return temperature == 0 or seed is not None


def default_path() -> Path:
    """Return where the cache is kept: below the user's cache folder."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG specification has relative paths ignored.
    folder = Path(base) if Path(base).is_absolute() else Path.home() / ".cache"
    return folder / "sage-dask" / "responses.sqlite"


@dataclass(frozen=True, slots=True)
class CacheStatistics:
    """What a cache did for this process."""

    hits: int = 0
    misses: int = 0
    """Of these, some may have been there: the file could not be read."""
    stored: int = 0
    """Answers handed to the file."""
    not_stored: int = 0
    """Answers that it did not take."""
    is_off: bool = False
    """Whether requests are sent without looking, until the file is tried again."""
    fault: str = ""
    """What went wrong last."""


class _Question(NamedTuple):
    """What the thread is asked: to find the answer of a key, or to keep one."""

    key: bytes
    answer: Any = None
    is_put: bool = False


class ResponseCache:
    """Answers by the key of their request, on a local disk, for all processes of a host.

    Args:
        path: The file; None for the user's own.
        max_bytes: Most bytes kept; the least recently used answers go first.
        clock: Seconds since 1970, by which use is noted.
        monotonic: Seconds; only differences count.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        max_bytes: int = MAX_BYTES,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.path = default_path() if path is None else Path(path)
        self._max_bytes = max_bytes
        self._clock = clock
        self._monotonic = monotonic
        self._counts: Counter[str] = Counter()
        self._fault = ""
        self._off_until_s = {"read": -math.inf, "written": -math.inf}
        self._has_warned = False
        self._thread = GroupedThread("sage-dask-cache", self._answered, most=_GROUP)
        self._file: CacheFile | None = None
        self._pid = os.getpid()

    async def get(self, key: bytes) -> Any | None:
        """Return the answer to a request that was answered before; None where there is none."""
        answer = await self._ask("read", _Question(key))
        self._counts["misses" if answer is None else "hits"] += 1
        return answer

    async def put(self, key: bytes, answer: Any) -> None:
        """Keep an answer, which must not change meanwhile; the first one of a key stays.

        Once this returns, a kill of the process does not lose it.
        """
        is_stored = await self._ask("written", _Question(key, answer, is_put=True))
        self._counts["stored" if is_stored else "not_stored"] += 1

    def statistics(self) -> CacheStatistics:
        """Return the counts of this moment."""
        is_off = self._monotonic() < max(self._off_until_s.values())
        return CacheStatistics(**self._counts, is_off=is_off, fault=self._fault)

    def close(self) -> None:
        """Wait for what is under way and close the file; the next request opens it again."""
        self._thread.close()
        self._let_go_inherited()
        if self._file is not None:
            self._file.close()
        self._file = None

    async def _ask(self, what: str, question: _Question) -> Any:
        if self._monotonic() < self._off_until_s[what]:
            return None
        try:
            async with asyncio.timeout(_DEADLINE_S):
                return await self._thread.ask(question)
        except TimeoutError:
            self._failed(what, TimeoutError(f"no answer within {_DEADLINE_S:g} s"))
            return None

    def _answered(self, questions: Sequence[_Question]) -> Sequence[Any]:
        """Answer in the cache's thread: what was found, and whether it was kept."""
        found = self._found([question.key for question in questions if not question.is_put])
        values: dict[bytes, bytes] = {}
        for question in questions:
            if question.is_put and (value := _encoded(question.answer)) is not None:
                values.setdefault(question.key, value)
        is_kept = self._kept(values)
        return [
            is_kept and question.key in values if question.is_put else found.get(question.key)
            for question in questions
        ]

    def _found(self, keys: Sequence[bytes]) -> Mapping[bytes, Any]:
        if not keys:
            return {}
        try:
            values = self._opened().get(keys)
            answers = {key: _decoded(value) for key, value in values.items()}
            if unreadable := [key for key, answer in answers.items() if answer is None]:
                self._opened().remove(unreadable)
        except Exception as error:
            self._failed("read", error)
            return {}
        return answers

    def _kept(self, values: Mapping[bytes, bytes]) -> bool:
        if not values:
            return False
        try:
            self._opened().put(values)
        except Exception as error:
            self._failed("written", error)
            return False
        return True

    def _opened(self) -> CacheFile:
        self._let_go_inherited()
        if self._file is None:
            self._file = CacheFile(self.path, max_bytes=self._max_bytes, clock=self._clock)
        return self._file

    def _let_go_inherited(self) -> None:
        """Forget a file that the parent of a forked process opened, and must close itself."""
        if self._pid != os.getpid():
            # Kept, since letting go of the last reference would close it.
            _inherited.append(self._file)
            self._file, self._pid = None, os.getpid()

    def _failed(self, what: str, error: Exception) -> None:
        """Do without the cache for a while; have it begin anew where its file is damaged."""
        self._off_until_s[what] = self._monotonic() + RETRY_AFTER_S
        self._fault = f"can not be {what} ({type(error).__name__}: {error})"
        if is_damaged(error):
            self._abandon()
        if not self._has_warned:
            self._has_warned = True
            _log.warning(
                "response cache %r %s; requests are sent as if there were none, and it is tried "
                "again every %.0f s; see that its disk is local and has room, or remove it",
                str(self.path),
                self._fault,
                RETRY_AFTER_S,
            )

    def _abandon(self) -> None:
        damaged, self._file = self._file, None
        try:
            if damaged is not None:
                damaged.abandon()
        except Exception as error:
            self._fault += f", nor moved aside ({error})"

    def __repr__(self) -> str:
        hits, asked = self._counts["hits"], self._counts["hits"] + self._counts["misses"]
        fault = f", {self._fault}" if self._fault else ""
        return f"<ResponseCache {str(self.path)!r} {hits} of {asked} were there{fault}>"


_inherited: list[CacheFile | None] = []


def _encoded(answer: Any) -> bytes | None:
    """Return an answer as it is kept; None for what JSON can not say."""
    try:
        return None if answer is None else zlib.compress(json.dumps(answer).encode())
    except (TypeError, ValueError, RecursionError):
        return None


def _decoded(value: bytes) -> Any | None:
    """Return an answer as it was; None for what is damaged."""
    try:
        return json.loads(zlib.decompress(value))
    except (zlib.error, ValueError):
        return None


def _number(value: Any) -> Any:
    """Return a number as all ways to write it look: a temperature of 0 is one of 0.0."""
    return int(value) if isinstance(value, float) and value.is_integer() else value
