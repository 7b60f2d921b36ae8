"""Where the requests of one worker process wait for their turn.

Whoever governs the requests of all workers allots each process its slots, by
endpoint and job.  Within them a slot that comes free goes to the next request
at once, with no message in between.  Until the first allotment everything may
start.  All methods run on one loop thread, so none of them locks.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from sage_dask.endpoint.breaker import Breaker, RequestOutcome
from sage_dask.endpoint.desk import Desk
from sage_dask.endpoint.line import Waiter
from sage_dask.endpoint.report import Outcomes, RequestReport
from sage_dask.endpoint.routing import prefix_key
from sage_dask.endpoint.traffic import Traffic
from sage_dask.errors import InvariantError, StopRun

# For endpoints that nobody configured.
MAX_OUTAGE_S = 600.0


@dataclass(frozen=True, slots=True)
class SlotsStatistics:
    """The requests of one process at one moment."""

    in_flight: int
    slots: int | None
    """Requests that may run at once; None where nobody governs them."""
    waiting: int
    endpoints: int
    down: int
    """Endpoints whose circuit breaker is open."""


class Slot:
    """The right to have one request under way, from ``acquire`` until ``release``."""

    __slots__ = ("_generation", "_is_released", "_slots", "endpoint", "job", "task")

    def __init__(
        self, slots: RequestSlots, endpoint: str, job: str, task: Hashable, generation: int
    ) -> None:
        self.endpoint = endpoint
        self.job = job
        self.task = task
        self._generation = generation
        self._slots = slots
        self._is_released = False

    def release(self, outcome: RequestOutcome, latency_s: float = 0.0, said: str = "") -> None:
        """Give the slot back; the next request starts at once.

        Args:
            outcome: ``"ok"``, also for an answer that refuses the record; ``"busy"`` for 429 and
                503; ``"failed"`` where the server may be to blame; ``"cancelled"``.
            latency_s: How long a request that went well took.
            said: What failed, in words.

        Raises:
            InvariantError: It was given back before.
        """
        if self._is_released:
            raise InvariantError(
                f"{self!r} is released a second time, as {outcome!r}; release each slot once, "
                "in the block that follows its request"
            )
        self._is_released = True
        self._slots._end(self, self._generation, outcome, latency_s, said)

    def __repr__(self) -> str:
        state = "released" if self._is_released else "held"
        return f"<Slot of {self.endpoint} for {self.job!r}, task {self.task!r}, {state}>"


class RequestSlots:
    """The slots of one process and the lines in front of them.

    A request first ``acquire``s a slot.  It gets one of any endpoint that it names, in the order
    of arrival within its job (``line`` says with what exceptions), as long as its job has fewer
    requests there than slots and the endpoint's circuit breaker lets it through.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.share = 1.0
        """Part of any rate limit that this process may use; the rest is for others like it."""
        self.on_change: Callable[[], None] | None = None
        """Called, often, when a report would differ from the last one."""
        self._clock = clock
        self._jitter = jitter
        self._traffic: dict[str, Traffic] = {}
        self._desks: dict[tuple[str, tuple[str, ...]], Desk] = {}
        self._outstanding: dict[Hashable, int] = {}
        self._max_outage_s: dict[frozenset[str], float] = {}
        self._since_s: dict[str, float] = {}
        """By job: when it first asked.  A run after one that gave up must try for itself."""
        self._is_governed = False
        self._version = 0
        self._arrivals = 0
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at_s = 0.0

    def configure(self, endpoints: Sequence[str], max_outage_s: float) -> None:
        """Say after how long an outage of all these endpoints no request waits for them."""
        self._max_outage_s[frozenset(endpoints)] = max_outage_s

    def allot(self, allotments: Mapping[str, Mapping[str, int]], version: int) -> None:
        """Go by new slots from now on; requests under way beyond them are left to end.

        Args:
            allotments: Slots by endpoint and job, all there are: what is not named has none.
            version: What ``report`` tells from now on.
        """
        self._is_governed = True
        self._version = version
        for endpoint in allotments:
            self._traffic_to(endpoint)
        for endpoint, traffic in self._traffic.items():
            traffic.slots = dict(allotments.get(endpoint, {}))
        self._go_by_slots()

    def free(self) -> None:
        """Let everything start again, as before the first allotment: nobody governs any more."""
        self._is_governed = False
        for traffic in self._traffic.values():
            traffic.slots = None
        self._go_by_slots()

    async def acquire(
        self, endpoints: Sequence[str], job: str, task: Hashable, *, prefix: str | None = None
    ) -> Slot:
        """Wait for a slot of one of the endpoints.

        Args:
            endpoints: Replicas of one server; any of them will do.
            job: Whose slots it may be.
            task: In which the request is made, for messages.
            prefix: The beginning that the request shares with others, such as the prompt's
                instructions; requests with the same one prefer the same replica.

        Raises:
            StopRun: All endpoints have been down for longer than ``configure`` allowed, since the
                job first asked for a slot.
        """
        now_s = self._clock()
        desk = self._desk_of(job, tuple(dict.fromkeys(endpoints)))
        if desk.is_given_up(self._max_outage_of(desk), now_s):
            raise StopRun(desk.outage(now_s))
        key = None if prefix is None else prefix_key(prefix)
        if traffic := desk.route(key, now_s):
            slot = self._start(desk, traffic, task, key, now_s)
            self._changed()
            return slot
        return await self._wait(desk, task, key, now_s)

    def entered(self, task: Hashable, n: int = 1) -> None:
        """Count requests of a task that exist from now on: waiting, under way or backing off."""
        self._outstanding[task] = self._outstanding.get(task, 0) + n
        self._changed()

    def left(self, task: Hashable, n: int = 1) -> None:
        """Count requests of a task that are over."""
        outstanding = self._outstanding.get(task, 0) - n
        if outstanding < 0:
            raise InvariantError(
                f"task {task!r}: {n} requests left, but only {n + outstanding} had entered; "
                "call left() once for each entered()"
            )
        self._outstanding[task] = outstanding
        self._changed()

    @property
    def has_idle(self) -> bool:
        """Whether slots stand empty for want of requests; others might have some for them."""
        return self._is_governed and any(
            traffic.all_slots > sum(traffic.in_flight.values())
            for traffic in self._traffic.values()
        )

    def down_s(self, endpoint: str) -> float | None:
        """Return for how long an endpoint's circuit breaker has been open, if it is."""
        traffic = self._traffic.get(endpoint)
        return None if traffic is None else traffic.breaker.down_s(self._clock())

    def last_error(self, endpoint: str) -> str:
        """Return what the latest failure of an endpoint said; nothing if none did."""
        traffic = self._traffic.get(endpoint)
        return "" if traffic is None else traffic.breaker.last_error

    def report(self) -> RequestReport:
        """Return the present state, and the outcomes since the last call."""
        outstanding = self._outstanding
        self._outstanding = {task: number for task, number in outstanding.items() if number}
        outcomes = {endpoint: each.take_outcomes() for endpoint, each in self._traffic.items()}
        down_s = {endpoint: self.down_s(endpoint) for endpoint in self._traffic}
        return RequestReport(
            outstanding=outstanding,
            in_flight={
                (endpoint, job): number
                for endpoint, traffic in self._traffic.items()
                for job, number in traffic.in_flight.items()
            },
            outcomes={name: each for name, each in outcomes.items() if each != Outcomes()},
            down_s={name: seconds for name, seconds in down_s.items() if seconds is not None},
            version=self._version,
        )

    def statistics(self) -> SlotsStatistics:
        """Return counts over all endpoints and jobs."""
        traffic = self._traffic.values()
        return SlotsStatistics(
            in_flight=sum(sum(each.in_flight.values()) for each in traffic),
            slots=sum(int(each.all_slots) for each in traffic) if self._is_governed else None,
            waiting=sum(len(desk.line) for desk in self._desks.values()),
            endpoints=len(traffic),
            down=sum(each.breaker.is_open for each in traffic),
        )

    def _go_by_slots(self) -> None:
        """Hand out what has become free."""
        # Jobs come and go; whoever waits keeps the desk of its job.
        self._desks = {name: desk for name, desk in self._desks.items() if desk.line}
        for desk in self._desks.values():
            desk.note_usable()
        self._serve(self._desks.values(), self._clock())
        self._changed()

    async def _wait(self, desk: Desk, task: Hashable, key: bytes | None, now_s: float) -> Slot:
        granted: asyncio.Future[Slot | StopRun] = asyncio.get_running_loop().create_future()
        self._arrivals += 1
        waiter = Waiter(self._arrivals, task, granted, key)
        desk.line.add(waiter)
        self._set_timer(now_s)
        try:
            answer = await granted
        except BaseException:
            # Whoever is cancelled in the turn in which it got a slot must hand it on.
            if not granted.done() or granted.cancelled():
                desk.line.discard(waiter)
            elif isinstance(slot := granted.result(), Slot):
                slot.release("cancelled")
            raise
        if isinstance(answer, StopRun):
            raise answer
        return answer

    def _end(
        self, slot: Slot, generation: int, outcome: RequestOutcome, latency_s: float, said: str
    ) -> None:
        """Take a slot back and hand out what came free."""
        now_s = self._clock()
        traffic = self._traffic[slot.endpoint]
        breaker = traffic.breaker
        was_open, was_closed = breaker.is_open, breaker.is_closed
        traffic.end(slot.job, generation, outcome, latency_s, now_s, said)
        desks = [desk for desk in self._desks.values() if slot.endpoint in desk.endpoints]
        if breaker.is_open != was_open:
            for desk in desks:
                desk.note_usable()
        if was_closed and breaker.is_closed:
            # Only then is what came free the job's own; a breaker's room is everyone's.
            desks = [desk for desk in desks if desk.job == slot.job]
        self._serve(desks, now_s)
        self._changed()

    def _serve(self, desks: Iterable[Desk], now_s: float) -> None:
        """Hand out free slots, to who has waited longest first."""
        waiting = [desk for desk in desks if desk.line]
        while waiting:
            desk = min(waiting, key=lambda each: each.line.first.number)
            if granted := desk.next(now_s):
                self._grant(desk, *granted, now_s)
            if not granted or not desk.line:
                waiting.remove(desk)
        self._set_timer(now_s)

    def _grant(self, desk: Desk, waiter: Waiter, traffic: Traffic, now_s: float) -> None:
        if not waiter.granted.done():  # Else it was cancelled and has not had its turn since.
            slot = self._start(desk, traffic, waiter.task, waiter.key, now_s)
            waiter.granted.set_result(slot)

    def _start(
        self, desk: Desk, traffic: Traffic, task: Hashable, key: bytes | None, now_s: float
    ) -> Slot:
        generation = traffic.start(desk.job, key, now_s)
        return Slot(self, traffic.endpoint, desk.job, task, generation)

    def _set_timer(self, now_s: float) -> None:
        """Come back when a waiting request may probe its server, or has waited long enough."""
        at_s = min(self._timer_times(now_s), default=None)
        if self._timer is not None and at_s != self._timer_at_s:
            self._timer.cancel()
            self._timer = None
        if at_s is not None and self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(at_s - now_s, self._on_timer)
            self._timer_at_s = at_s

    def _timer_times(self, now_s: float) -> Iterator[float]:
        if not any(traffic.breaker.is_open for traffic in self._traffic.values()):
            return
        for desk in self._desks.values():
            if desk.line:
                yield from desk.times_to_wake(self._max_outage_of(desk), now_s)

    def _on_timer(self) -> None:
        self._timer = None
        now_s = self._clock()
        for desk in self._desks.values():
            if desk.is_given_up(self._max_outage_of(desk), now_s):
                self._stop(desk, now_s)
        self._serve(self._desks.values(), now_s)
        self._changed()

    def _stop(self, desk: Desk, now_s: float) -> None:
        """Have nobody wait at a desk any longer."""
        for waiter in list(desk.line):
            desk.line.remove(waiter)
            if not waiter.granted.done():
                waiter.granted.set_result(StopRun(desk.outage(now_s)))

    def _max_outage_of(self, desk: Desk) -> float:
        return self._max_outage_s.get(frozenset(desk.endpoints), MAX_OUTAGE_S)

    def _desk_of(self, job: str, endpoints: tuple[str, ...]) -> Desk:
        desk = self._desks.get((job, endpoints))
        if desk is None:
            since_s = self._since_s.setdefault(job, self._clock())
            desk = Desk(job, tuple(map(self._traffic_to, endpoints)), since_s)
            self._desks[job, endpoints] = desk
        return desk

    def _traffic_to(self, endpoint: str) -> Traffic:
        traffic = self._traffic.get(endpoint)
        if traffic is None:
            traffic = self._traffic[endpoint] = Traffic(endpoint, Breaker(self._jitter))
            traffic.slots = {} if self._is_governed else None
        return traffic

    def _changed(self) -> None:
        if self.on_change is not None:
            self.on_change()

    def __repr__(self) -> str:
        now = self.statistics()
        slots = "" if now.slots is None else f"/{now.slots}"
        return (
            f"<RequestSlots {now.in_flight}{slots} in flight, {now.waiting} waiting, "
            f"{now.down} of {now.endpoints} endpoints down>"
        )
