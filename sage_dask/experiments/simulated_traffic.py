"""Clients that keep a simulated server busy, each within a limit, in simulated time.

What a client sends reaches the server in the middle of a step, so a little waits
there always, as in real life.  A hundred simulated seconds take less than one
real second, and always go the same way.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from sage_dask.endpoint.gauges import Gauges
from sage_dask.endpoint.report import Outcomes
from sage_dask.experiments.simulated_server import Request, Server
from sage_dask.scheduling.adaptive import AdaptiveLimit

# How old a client's reports are, and how long a request is on its way.
_REPORT_S = 0.05
_TRAVEL_S = 0.002

# A client that was refused tries again after a time that doubles up to the last.
_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 8.0

Event = tuple[float, Callable[[Server], None]]
"""When something happens to the server, and what."""


@dataclass(eq=False)
class Client:
    """Someone with more requests than the server takes, and a limit."""

    limit: AdaptiveLimit | float
    starts_s: float = 0.0
    gauge_age_s: float = 0.0
    """How old the server's gauges are when they are seen."""
    sees_gauges: bool = True
    num_ok: int = 0
    num_failed: int = 0
    in_flight: int = 0
    paused_until_s: float = 0.0
    _pause_s: float = _PAUSE_S
    _ok: int = 0
    _busy: int = 0
    _failed: int = 0
    _latency_s: float = 0.0

    @property
    def slots(self) -> int:
        """How many requests may be under way."""
        return int(self.limit.limit if isinstance(self.limit, AdaptiveLimit) else self.limit)

    def ended(self, now_s: float, request: Request) -> None:
        """Count an answer."""
        self.in_flight -= 1
        self.num_ok += 1
        self._ok += 1
        self._latency_s += now_s - request.sent_s
        self._pause_s = _PAUSE_S

    def failed(self, now_s: float, *, is_busy: bool = False) -> None:
        """Count a refusal or a cut connection, and wait before the next request."""
        self.in_flight -= 1
        self.num_failed += 1
        self._busy += is_busy
        self._failed += not is_busy
        if now_s >= self.paused_until_s:
            self.paused_until_s = now_s + self._pause_s
            self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)

    def report(self, now_s: float) -> None:
        """Tell the limit how requests went since the last report."""
        outcomes = Outcomes(self._ok, self._busy, self._failed, self._latency_s)
        self._ok = self._busy = self._failed = 0
        self._latency_s = 0.0
        if isinstance(self.limit, AdaptiveLimit) and outcomes != Outcomes():
            self.limit.observe_outcomes(outcomes, self.in_flight, now_s)


@dataclass(frozen=True, slots=True)
class Second:
    """One second of a run."""

    tokens: int
    """Generated in this second."""
    waiting: float
    """Requests in the server's queue, on average."""
    slots: tuple[int, ...]
    """Of each client, at the end of the second."""


@dataclass
class Run:
    """A server and its clients, second by second."""

    server: Server
    clients: Sequence[Client]
    events: Sequence[Event] = ()
    requests: int | None = None
    """All there are; None for always one more."""
    seed: int = 0
    seconds: list[Second] = field(default_factory=list)
    now_s: float = 0.0

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)  # noqa: S311 - a simulation, no secret
        self._left = self.requests
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._is_stepping = False
        self._queue_s = 0.0
        self._queue_since_s = 0.0
        self._tokens = 0
        self._gauges: deque[tuple[float, Gauges]] = deque(maxlen=64)

    def until(self, end_s: float) -> Run:
        """Simulate until a time, or until all requests are answered."""
        for at_s, happen in self.events:
            self._at(at_s, partial(self._strike, happen))
        for client in self.clients:
            self._at(client.starts_s, partial(self._report, client))
            self._at(client.starts_s, partial(self._poll, client))
        self._at(1.0, self._tick)
        while self._agenda and self._agenda[0][0] <= end_s and not self._is_done():
            self.now_s, _, happen_now = heapq.heappop(self._agenda)
            happen_now()
        return self

    def _is_done(self) -> bool:
        return self._left == 0 and all(client.in_flight == 0 for client in self.clients)

    def _at(self, at_s: float, happen: Callable[[], None]) -> None:
        heapq.heappush(self._agenda, (at_s, next(self._order), happen))

    def _strike(self, happen: Callable[[Server], None]) -> None:
        self._account()
        happen(self.server)
        if self.server.is_down:
            for request in self.server.drop_all():
                self._refuse(request)

    def _report(self, client: Client) -> None:
        client.report(self.now_s)
        self._send(client)
        self._at(self.now_s + _REPORT_S, partial(self._report, client))

    def _poll(self, client: Client) -> None:
        if not isinstance(client.limit, AdaptiveLimit) or not client.sees_gauges:
            return
        if not self.server.is_down:
            gauges = self._aged_gauges(client.gauge_age_s)
            client.limit.observe_gauges(gauges, client.in_flight, self.now_s)
            self._send(client)
        self._at(self.now_s + client.limit.next_poll_s, partial(self._poll, client))

    def _aged_gauges(self, age_s: float) -> Gauges:
        if not age_s:
            return self.server.gauges()
        until_s = self.now_s - age_s
        return next((g for at, g in reversed(self._gauges) if at <= until_s), Gauges(0, 0))

    def _send(self, client: Client) -> None:
        if self.now_s < client.paused_until_s or self.now_s < client.starts_s:
            return
        while client.in_flight < client.slots and self._left != 0:
            if self._left is not None:
                self._left -= 1
            client.in_flight += 1
            mean, deviation = self.server.shape.tokens
            tokens = max(1, round(self._random.gauss(mean, deviation)))
            request = Request(self.clients.index(client), tokens, self.now_s)
            self._at(self.now_s + _TRAVEL_S, partial(self._arrive, request))

    def _arrive(self, request: Request) -> None:
        if self.server.is_down or not self.server.accepts():
            self._refuse(request)
            return
        self._account()
        self.server.waiting.append(request)
        if not self._is_stepping:
            self._begin_step()

    def _refuse(self, request: Request) -> None:
        """Have a request fail, and be sent again some time."""
        if self._left is not None:
            self._left += 1
        client = self.clients[request.client]
        client.failed(self.now_s, is_busy=not self.server.is_down)

    def _begin_step(self) -> None:
        self._account()
        length_s = self.server.begin_step()
        self._is_stepping = True
        self._at(self.now_s + length_s, self._end_step)

    def _end_step(self) -> None:
        self._is_stepping = False
        self._account()
        for request in self.server.end_step():
            client = self.clients[request.client]
            client.ended(self.now_s, request)
            self._send(client)
        if not self.server.is_idle:
            self._begin_step()

    def _account(self) -> None:
        """Add up what waits; called whenever that is about to change."""
        self._queue_s += len(self.server.waiting) * (self.now_s - self._queue_since_s)
        self._queue_since_s = self.now_s
        if not self._gauges or self.now_s - self._gauges[-1][0] >= _REPORT_S:
            self._gauges.append((self.now_s, self.server.gauges()))

    def _tick(self) -> None:
        self._account()
        tokens, self._tokens = self.server.tokens_out - self._tokens, self.server.tokens_out
        slots = tuple(client.slots for client in self.clients)
        self.seconds.append(Second(tokens, self._queue_s, slots))
        self._queue_s = 0.0
        self._at(self.now_s + 1.0, self._tick)
