"""Service by the clock: a request holds a seat for a drawn time, whatever its length.

All times are absolute.  A seat that falls free is taken at that very time, also
when nobody looked for a while, so a busy machine does not make the server slower.
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass
from itertools import count

from sage_dask.cluster.timed_server.options import TimedOptions
from sage_dask.cluster.timed_server.prefix_cache import PrefixCache
from sage_dask.cluster.timed_server.work import (
    EngineEvent,
    EngineStatistics,
    Finished,
    Produced,
    Work,
)

# Parts in which a streamed answer comes out, at even distances.
_STREAM_PARTS = 8


@dataclass(slots=True)
class _Request:
    """A piece of work, and the time it was drawn."""

    work: Work
    arrived_s: float
    service_s: float
    started_s: float = 0.0
    cached_tokens: int = 0

    @property
    def tokens(self) -> int:
        return self.work.prompt_tokens + self.work.answer_tokens

    def part_s(self, parts_of_all: float) -> float:
        """Return when a share of the answer, 0 to 1, is out."""
        return self.started_s + self.service_s * parts_of_all


class FixedLatency:
    """An engine of strict seats, each request on one for a time that is drawn as it arrives."""

    def __init__(self, options: TimedOptions) -> None:
        self._options = options
        self._random = random.Random(options.seed)  # noqa: S311 - times, not secrets
        self._prefixes = PrefixCache(options.prefix_blocks)
        self._waiting: deque[_Request] = deque()
        self._running: dict[Hashable, _Request] = {}
        self._due: list[tuple[float, int, int, _Request]] = []
        """(when, order, parts of the answer, request); a heap, with those cancelled in it."""
        self._order = count()
        self._tokens_held = 0

    @property
    def next_s(self) -> float | None:
        """When the next part of an answer is out."""
        while self._due and not self._is_running(self._due[0][3]):
            heapq.heappop(self._due)
        return self._due[0][0] if self._due else None

    def submit(self, work: Work, now_s: float) -> None:
        """Draw how long a request will take, and start it if a seat is free."""
        self._waiting.append(_Request(work, now_s, self._draw_s()))
        self._fill_seats(now_s)

    def cancel(self, key: Hashable, now_s: float) -> None:
        """Drop a request; its seat is free at once."""
        if request := self._running.get(key):
            self._leave(request, now_s)
            return
        self._waiting = deque(each for each in self._waiting if each.work.key != key)

    def advance(self, now_s: float) -> list[EngineEvent]:
        """Return what came out until now; each seat is taken again when it fell free."""
        events: list[EngineEvent] = []
        while (next_s := self.next_s) is not None and next_s <= now_s:
            due_s, _, parts, request = heapq.heappop(self._due)
            if request.work.is_streamed:
                tokens = -(-request.work.answer_tokens * parts // _STREAM_PARTS)
                events.append(Produced(request.work.key, tokens))
            if parts == _STREAM_PARTS:
                self._leave(request, due_s)
                events.append(_finished(request, due_s))
        return events

    def statistics(self) -> EngineStatistics:
        """Return the counts of this moment."""
        return EngineStatistics(
            running=len(self._running),
            waiting=len(self._waiting),
            # Nothing is held back for lack of memory here, so the sum may exceed what there is.
            kv_usage=min(1.0, self._tokens_held / self._options.kv_tokens),
            preemptions=0,
            prefix_queries=self._prefixes.queries,
            prefix_hits=self._prefixes.hits,
        )

    def _draw_s(self) -> float:
        mean, jitter = self._options.latency_s or 0.0, self._options.jitter_s
        if self._options.spread == "normal":
            return max(0.0, self._random.gauss(mean, jitter))
        return max(0.0, self._random.uniform(mean - jitter, mean + jitter))

    def _fill_seats(self, now_s: float) -> None:
        while self._waiting and len(self._running) < self._options.seats:
            self._start(self._waiting.popleft(), now_s)

    def _start(self, request: _Request, now_s: float) -> None:
        work = request.work
        request.started_s = now_s
        request.cached_tokens = self._prefixes.known(work.blocks, work.prompt_tokens)
        self._prefixes.count(work.prompt_tokens, request.cached_tokens)
        self._prefixes.remember(work.blocks)
        self._running[work.key] = request
        self._tokens_held += request.tokens
        for parts in range(1 if work.is_streamed else _STREAM_PARTS, _STREAM_PARTS + 1):
            due_s = request.part_s(parts / _STREAM_PARTS)
            heapq.heappush(self._due, (due_s, next(self._order), parts, request))

    def _leave(self, request: _Request, now_s: float) -> None:
        del self._running[request.work.key]
        self._tokens_held -= request.tokens
        self._fill_seats(now_s)

    def _is_running(self, request: _Request) -> bool:
        return self._running.get(request.work.key) is request

    def __repr__(self) -> str:
        return (
            f"<FixedLatency {len(self._running)}/{self._options.seats} running, "
            f"{len(self._waiting)} waiting>"
        )


def _finished(request: _Request, now_s: float) -> Finished:
    tokens = max(1, request.work.answer_tokens)
    return Finished(
        request.work.key,
        arrived_s=request.arrived_s,
        started_s=request.started_s,
        first_token_s=request.part_s(1 / tokens),
        finished_s=now_s,
        cached_tokens=request.cached_tokens,
    )
