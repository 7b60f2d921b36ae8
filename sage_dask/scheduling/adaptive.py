"""How many requests a model server takes at once, found out by watching it.

The server says how many requests it runs and how many it lets wait.  First the
limit doubles for as long as the server runs more when it is given more; then
every look adds a little and takes away what waits of ours, so the limit settles
where a handful waits: the server is never idle and never drowned.  What is added
is the same for everyone who watches one server, what is taken is one's own share,
so several such limits become equal; the law is FAST TCP's, with the server's own
count in the place of measured delay.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

from sage_dask.endpoint.gauges import Gauges
from sage_dask.endpoint.limit import CEILING
from sage_dask.endpoint.report import Outcomes
from sage_dask.errors import PlanError, counted

# What a look at the server adds to the limit, and in the end what waits there of ours: a tenth
# of a request and an eightieth of what it runs.  Eight such limits on 64 seats then keep 7
# waiting; half as much would take twice as long to become equal (experiments/gate.py).
_STEP = 0.1
_STEP_OF_RUNNING = 0.0125

# The limit grew by more than this since the server last had a queue: it is far from full, and
# what was grown is doubled at every look from now on.  Less would overshoot by chance.
_NOTABLE = 1.25
_NOTABLE_OF_LIMIT = 0.05

# A server that runs so much of what it was given in addition is not full, ...
_TAKEN = 0.5
# ... nor is one that lets so little of its load wait.
_LITTLE = 0.1
# A raise shows in the gauges when so much of it does (through a load balancer they tell of one
# replica only), or after so many looks.
_SHOWN = 0.25
_LOOKS_TO_SHOW = 8
# A KV cache this full will be overfull when the sequences in it have grown.
_KV_FULL = 0.9

# A server that admits between steps of its batch always lets some wait for the next one, as if
# it breathed.  That share of the load is seen while there are free seats, is no more than a
# quarter, and is learnt from the looks of a search and, with less weight, from every other.  It
# is allowed for generously: on average a full server shows less of it than it needs.
_MOST_BREATH = 0.25
_LEARN_IN_SEARCH, _LEARN = 0.5, 0.2
_ALLOWED_BREATH = 1.3

# How many seats there are is seen only by giving more than is taken; that is tried now and then.
_TRY_EVERY_S = 20.0
_TRY = 0.1

# Looks that a queue has to last: one look may come in the middle of a burst of prompts.
_LOOKS = 2

_SEARCH_POLL_S = 0.25
_POLL_S = 1.0
_STALE_S = 5.0

# Requests turned away or failed lower the limit by their share, by no more than this at once.
_CUT = 0.7
# Fewer failures than this are accidents; a server that turns away means it.
_NOTABLE_FAILURES = 0.05
# Before anything is known, and the least: half a second of latency says little about a server.
_ROUND_TRIP_S = 1.0


class AdaptiveLimit:
    """The number of requests that may be under way to one server.

    Args:
        floor: The limit never falls below it.
        ceiling: The limit never grows above it.
        start: The limit before anything is known.
    """

    def __init__(self, floor: int = 1, ceiling: int = CEILING, start: int = 8) -> None:
        if not 1 <= floor <= ceiling:
            raise PlanError(
                f"adaptive limit: floor {floor} and ceiling {ceiling}; "
                "give a floor of at least 1 and a ceiling that is not below it"
            )
        self.floor = floor
        self.ceiling = ceiling
        self.limit = float(min(max(start, floor), ceiling))
        self.reason = f"starts with {counted(int(self.limit), 'request')}"
        # How much the limit grew since the server last had a queue.
        self._grown = max(self.limit, _NOTABLE + 1)
        self._raise: _Raise | None = None
        self._breath = 0.0
        self._seats = 0.0  # The most that ran since the last search.
        self._looks: deque[_Look] = deque(maxlen=_LOOKS)
        self._looked_s = self._tried_s = -math.inf
        self._round_trip_s = _ROUND_TRIP_S
        self._trip = _Trip(math.inf)
        self._cut_s = -math.inf

    def cap(self, ceiling: int) -> None:
        """Never exceed another ceiling from now on, nor at this moment."""
        self.ceiling = max(ceiling, self.floor)
        self.limit = min(self.limit, float(self.ceiling))

    @property
    def is_searching(self) -> bool:
        """Whether the limit is so far below what the server takes that it grows by doubling."""
        return self._grown > _NOTABLE + _NOTABLE_OF_LIMIT * self.limit

    @property
    def next_poll_s(self) -> float:
        """Seconds after which the server should be looked at again."""
        return _SEARCH_POLL_S if self.is_searching else _POLL_S

    def observe_gauges(self, gauges: Gauges, in_flight: int, now_s: float) -> None:
        """Learn from what the server says of itself.

        Args:
            gauges: Its load; that of others counts too.
            in_flight: Requests of ours that are under way to it at this moment.
            now_s: The time, by any clock that does not go back.
        """
        self._looked_s = now_s
        self._looks.append(_Look(gauges, in_flight))
        step = _STEP + _STEP_OF_RUNNING * gauges.running if self._is_used(in_flight) else 0.0
        if self.is_searching:
            self._search(step, now_s)
        else:
            self._follow(step, now_s)

    def observe_outcomes(self, outcomes: Outcomes, in_flight: int, now_s: float) -> None:
        """Learn from how requests went; without gauges there is nothing else to go by."""
        if outcomes.ok:
            latency_s = outcomes.latency_s / outcomes.ok
            self._round_trip_s += 0.1 * (max(latency_s, _ROUND_TRIP_S) - self._round_trip_s)
        if now_s - self._cut_s < self._round_trip_s:
            return  # These were sent before the limit was lowered.
        self._trip.add(outcomes, now_s)
        if self._trip.is_bad(in_flight):
            self._cut(in_flight, now_s)
        elif now_s - self._trip.began_s >= self._round_trip_s:
            if now_s - self._looked_s > _STALE_S and self._trip.ok and self._is_used(in_flight):
                self._grow(self._grown if self.is_searching else 1.0, "nothing was turned away")
            self._trip = _Trip(now_s)

    def _standing_queue(self) -> float:
        """Return how many of ours would wait even if no more than the limit were under way.

        After a cut it takes a while until so many have come back; what waits meanwhile was
        taken away already.  The shorter of the last queues is the one that stands.
        """
        if len(self._looks) < _LOOKS:
            return 0.0
        return max(min(look.queue(self._breath, self.limit) for look in self._looks), 0.0)

    def _search(self, step: float, now_s: float) -> None:
        """Double what the limit has grown, for as long as the server runs more for it."""
        look = self._looks[-1]
        if look.is_kv_full:
            self._settle(step, now_s, f"KV cache {look.gauges.kv_usage:.0%} full")
        elif self._raise is None or self._raise.is_taken(look):
            if step:
                self._seats = look.load
                self._breathe(look, _LEARN_IN_SEARCH)
                self._raise = _Raise(look, self._grown)
                self._grow(self._grown, "the server is not full")
        elif self._raise.is_refused():
            self._settle(step, now_s, "the server runs no more")

    def _settle(self, step: float, now_s: float, why: str) -> None:
        """End a search where the server is full."""
        self._raise = None
        self._grown = 0.0
        self._tried_s = now_s
        self._seats = self._looks[-1].gauges.running
        queue = self._standing_queue()
        self._set(self.limit - queue + step, f"{why}, {queue:.0f} waited")

    def _follow(self, step: float, now_s: float) -> None:
        """Add a step, take away the queue; where these are equal, the limit stays."""
        look = self._looks[-1]
        self._raise = None
        self._breathe(look, _LEARN)
        queue = self._standing_queue()
        if queue < step:
            self._grow(step - queue, "little waits at the server")
        elif queue:
            self._grown = 0.0
            if queue > _LITTLE * look.in_flight:
                self._seats = look.gauges.running  # There were more seats once.
            self._set(self.limit + step - queue, f"{queue:.1f} waited at the server")
        if step and now_s - self._tried_s >= _TRY_EVERY_S and not look.is_kv_full:
            self._tried_s = now_s
            self._grown = _NOTABLE + _TRY * self.limit

    def _breathe(self, look: _Look, weight: float) -> None:
        """Learn what part of the load waits although there are seats for it."""
        self._seats = max(self._seats, look.gauges.running)
        free = 0.0 if look.is_kv_full else self._seats - look.gauges.running
        share = min(look.gauges.waiting, free) / look.load if look.load else 0.0
        if share <= _MOST_BREATH:
            self._breath += weight * (share - self._breath)

    def _cut(self, in_flight: int, now_s: float) -> None:
        """Lower the limit by the share of requests that came to nothing."""
        trip, self._trip = self._trip, _Trip(now_s)
        self._cut_s = now_s
        kept = max(_CUT, 1 - trip.bad_share(in_flight))
        self._set(min(self.limit * kept, self.limit - 1), trip.words())
        # Where nothing came back at all there was an outage, and what will come back is unknown.
        self._raise = None
        self._grown = 0.0 if trip.ok else max(self.limit, _NOTABLE + 1)

    def _grow(self, step: float, why: str) -> None:
        self._grown = 0.0 if self.limit >= self.ceiling else self._grown + step
        self._set(self.limit + step, why)

    def _set(self, limit: float, why: str) -> None:
        limit = min(max(limit, self.floor), self.ceiling)
        if int(limit) != int(self.limit):
            self.reason = f"{int(self.limit)} to {int(limit)}: {why}"
        self.limit = limit

    def _is_used(self, in_flight: int) -> bool:
        """Return whether a higher limit would make a difference.

        The whole part counts: nobody can send nine tenths of a request.
        """
        return in_flight >= 0.9 * int(self.limit)

    def __repr__(self) -> str:
        return f"<AdaptiveLimit {self.limit:.1f}, {self.reason}>"


@dataclass(frozen=True, slots=True)
class _Look:
    """What one look at the server showed."""

    gauges: Gauges
    in_flight: int

    @property
    def load(self) -> float:
        """Requests of everyone at the server."""
        return self.gauges.running + self.gauges.waiting

    @property
    def share(self) -> float:
        """Of the load, what waits."""
        return self.gauges.waiting / self.load if self.load else 0.0

    @property
    def is_kv_full(self) -> bool:
        """Whether the KV cache takes in hardly anything more."""
        return self.gauges.kv_usage is not None and self.gauges.kv_usage >= _KV_FULL

    def queue(self, breath: float, limit: float) -> float:
        """Return how many of ours wait, if all wait alike, but for a share that always does.

        Negative where more than that are above the limit, and will not be replaced.
        """
        above = max(self.in_flight - limit, 0.0)
        return self.in_flight * max(self.share - _ALLOWED_BREATH * breath, 0.0) - above


@dataclass(slots=True)
class _Raise:
    """The last raise of a search, and whether the server took it."""

    before: _Look
    by: float
    _looks: int = 0
    _refusals: int = 0

    def is_taken(self, look: _Look) -> bool:
        """Return whether the server runs what it was given in addition."""
        self._looks += 1
        more = look.load - self.before.load
        if more < _SHOWN * self.by and self._looks < _LOOKS_TO_SHOW:
            return False
        taken = look.gauges.running - self.before.gauges.running
        if look.share <= _LITTLE or (more > 0 and taken >= _TAKEN * more):
            return True
        self._refusals += 1
        return False

    def is_refused(self) -> bool:
        """Return whether the server left it waiting for long enough to mean it."""
        return self._refusals >= _LOOKS


@dataclass(slots=True)
class _Trip:
    """How requests went during about one round trip."""

    began_s: float
    ok: int = 0
    busy: int = 0
    failed: int = 0

    def add(self, outcomes: Outcomes, now_s: float) -> None:
        self.began_s = min(self.began_s, now_s)
        self.ok += outcomes.ok
        self.busy += outcomes.busy
        self.failed += outcomes.failed

    def bad_share(self, in_flight: int) -> float:
        """Return the share that came to nothing, of all that a round trip brings back."""
        total = max(self.ok + self.busy + self.failed, in_flight)
        return (self.busy + self.failed) / total if total else 0.0

    def is_bad(self, in_flight: int) -> bool:
        """Return whether this is the server's doing rather than an accident."""
        return self.busy > 0 or self.bad_share(in_flight) > _NOTABLE_FAILURES

    def words(self) -> str:
        total = self.ok + self.busy + self.failed
        return f"{self.busy} turned away and {self.failed} failed of {total}"
