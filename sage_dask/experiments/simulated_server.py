"""A model server like vLLM, in simulated time: a batch, a queue, a KV cache.

It works in steps: each gives every sequence of the batch one token, and before
the next it takes in what waits, as far as there are seats and cache for it.
"""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from dataclasses import dataclass

from sage_dask.endpoint.gauges import Gauges


@dataclass(frozen=True, slots=True)
class Shape:
    """What a server is like, and what it is asked."""

    seats: int = 64
    step_s: float = 0.02
    """Of a step with nothing in the batch."""
    step_per_sequence_s: float = 0.0
    prefill_per_token_s: float = 0.0
    kv_tokens: int | None = None
    """Tokens that the KV cache holds; None for as many as needed."""
    queue_limit: int | None = None
    """Requests, running and waiting, beyond which further ones are turned away."""
    prompt: int = 200
    tokens: tuple[float, float] = (20.0, 5.0)
    """Mean and standard deviation of the tokens that are generated."""


@dataclass(slots=True)
class Request:
    """One request on its way through a server."""

    client: int
    """Who sent it, by number."""
    tokens: int
    """To be generated."""
    sent_s: float
    done: int = 0
    """Tokens that were generated before it was preempted."""
    ends_at: int = 0
    """The step in which the last token comes."""


class Server:
    """One server: a batch, a queue, and a KV cache that may be too small for the batch."""

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        self.slowdown = 1.0
        self.is_down = False
        self.seats = shape.seats
        self.num_preempted = 0
        self.tokens_out = 0
        self.waiting: deque[Request] = deque()
        self._running: dict[int, Request] = {}
        self._ends: list[tuple[int, int]] = []
        self._numbers = itertools.count()
        self._step = 0
        self._kv_used = 0

    def gauges(self) -> Gauges:
        """Return the load as the server publishes it."""
        kv = self.shape.kv_tokens
        return Gauges(
            len(self._running), len(self.waiting), None if kv is None else self._kv_used / kv
        )

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing to do."""
        return not self._running and not self.waiting

    def accepts(self) -> bool:
        """Return whether another request is not turned away."""
        most = self.shape.queue_limit
        return most is None or len(self._running) + len(self.waiting) < most

    def begin_step(self) -> float:
        """Take in what waits, make room where the KV cache is full; return the step's length."""
        prefilled = 0
        while self.waiting and len(self._running) < self.seats:
            needed = self.shape.prompt + self.waiting[0].done
            if not self._fits(needed + len(self._running)):
                break
            request = self.waiting.popleft()
            self._admit(request)
            prefilled += needed
        while len(self._running) > 1 and not self._fits(len(self._running)):
            self._preempt()
        shape = self.shape
        return self.slowdown * (
            shape.step_s
            + shape.step_per_sequence_s * len(self._running)
            + shape.prefill_per_token_s * prefilled
        )

    def end_step(self) -> list[Request]:
        """Give each sequence a token; return the requests that are done."""
        self._step += 1
        self._kv_used += len(self._running)
        self.tokens_out += len(self._running)
        finished = []
        while self._ends and self._ends[0][0] <= self._step:
            number = heapq.heappop(self._ends)[1]
            if (request := self._running.pop(number, None)) is not None:
                self._kv_used -= self.shape.prompt + request.tokens
                finished.append(request)
        return finished

    def drop_all(self) -> list[Request]:
        """Lose everything, as a server does that dies."""
        lost = [*self._running.values(), *self.waiting]
        self._running.clear()
        self._ends.clear()
        self.waiting.clear()
        self._kv_used = 0
        return lost

    def _fits(self, tokens: int) -> bool:
        return self.shape.kv_tokens is None or self._kv_used + tokens <= self.shape.kv_tokens

    def _admit(self, request: Request) -> None:
        number = next(self._numbers)
        request.ends_at = self._step + request.tokens - request.done
        self._running[number] = request
        self._kv_used += self.shape.prompt + request.done
        heapq.heappush(self._ends, (request.ends_at, number))

    def _preempt(self) -> None:
        """Send the newest back to the head of the queue; what it generated is computed again."""
        _, request = self._running.popitem()
        request.done = request.tokens - (request.ends_at - self._step)
        self._kv_used -= self.shape.prompt + request.done
        self.num_preempted += 1
        self.waiting.appendleft(request)
