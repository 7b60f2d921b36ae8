"""A circuit breaker: whether a model server is there, judged by how requests to it end.

Closed, it counts.  Open, it lets one request at a time probe the server, ever
less often.  Once one got through, a slow start lets more through in every
round, and with as many as may run at all the breaker is closed again.  It holds
requests back and fails none.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Literal, TypeAlias

# "busy": the server turned the request away (429, 503).  "failed": no answer, or a broken one.
RequestOutcome: TypeAlias = Literal["ok", "busy", "failed", "cancelled"]

# So many failures and no answer between them are an outage.  More than the tries of one record,
# so that one which always fails can not close a server to others, even when it is alone; few, as
# each of them costs a record a try: a server that refuses connections ends five in milliseconds.
FAILURES_IN_A_ROW = 5

# Between two probes: a thirtieth of the time that the server has been down, within bounds.  A
# wait in proportion to the outage grows as doubling does, and lets recovery start after 3 % more
# of it at most: within 1 s of a short one, within 2 s during the first minute, then within 10 s.
PROBES_PER_OUTAGE = 30
FIRST_PROBE_S = 1.0
LAST_PROBE_S = 10.0

# After so long without a request nobody knows whether an outage lasts: the next one begins anew.
# Longer than any backoff, during which a lone record sends nothing.
STALE_S = 120.0

# Slow start ends here where nothing else limits the number of requests.
_MOST_SLOW_START = 256


class Breaker:
    """The health of one server, as one process sees it.

    ``start`` every request and ``end`` it with what ``start`` returned, its generation: requests
    from before an outage may fail for as long as their deadlines are, and say nothing new then.
    """

    def __init__(self, jitter: Callable[[], float] = random.random) -> None:
        self._jitter = jitter
        self.open_since_s: float | None = None
        """When the outage began; None while there is none."""
        self.next_probe_s = math.inf
        """When one more request may probe the server, while the breaker is open."""
        self.last_error = ""
        """What the latest failure said."""
        self._allowance = math.inf
        """Requests of this generation that may run at once, after an outage."""
        self._running = 0
        """Requests of this generation."""
        self._generation = 0
        self._failures = 0
        """In a row, of this generation."""
        self._heard_s = -math.inf

    @property
    def is_open(self) -> bool:
        """Whether the server counts as down."""
        return self.open_since_s is not None

    @property
    def is_closed(self) -> bool:
        """Whether nothing is held back."""
        return not self.is_open and self._allowance == math.inf

    def down_s(self, now_s: float) -> float | None:
        """Return for how long the server has been down; None if it is not, or nobody tried."""
        if self.open_since_s is None or self._is_stale(now_s):
            return None
        return now_s - self.open_since_s

    def room(self, now_s: float) -> float:
        """Return how many more requests may start: none, one as a probe, some, or any number."""
        if self.is_open:
            return 1 if now_s >= self.next_probe_s else 0
        return max(0.0, self._allowance - self._running)

    def start(self, now_s: float) -> int:
        """Count a request that starts, and return its generation."""
        if self.open_since_s is not None:
            if self._is_stale(now_s):
                self.open_since_s = now_s
            # A probe that gets no answer at all must not keep the next ones from being sent.
            self.next_probe_s = now_s + self._probe_delay_s(now_s - self.open_since_s)
        self._heard_s = now_s
        self._running += 1
        return self._generation

    def end(
        self,
        generation: int,
        outcome: RequestOutcome,
        now_s: float,
        *,
        slots: float = math.inf,
        said: str = "",
    ) -> None:
        """Learn how a request ended.

        Args:
            generation: What ``start`` returned for it.
            outcome: How it ended; being busy is a sign of life, being cancelled is no sign.
            now_s: The time in seconds.
            slots: Requests that may run at once by other limits; slow start ends there.
            said: What failed, in words.
        """
        is_late = generation != self._generation
        if not is_late:
            self._running -= 1
        if outcome == "failed":
            self._failed(is_late, now_s, said)
        elif outcome != "cancelled":
            self._answered(is_late, outcome == "ok", now_s, slots)
        elif self.is_open and not is_late:
            self.next_probe_s = now_s

    def _failed(self, is_late: bool, now_s: float, said: str) -> None:
        if is_late:
            return
        self._heard_s = now_s
        self.last_error = said or self.last_error
        if self.open_since_s is not None:
            self.next_probe_s = now_s + self._probe_delay_s(now_s - self.open_since_s)
            return
        self._failures += 1
        # In a slow start: as many as were let through, or one bad record would end each of them.
        if self._failures >= min(FAILURES_IN_A_ROW, self._allowance):
            self._open(now_s)

    def _open(self, now_s: float) -> None:
        self.open_since_s = now_s
        self.next_probe_s = now_s + self._probe_delay_s(0.0)
        self._generation += 1
        self._running = 0
        self._failures = 0

    def _answered(self, is_late: bool, is_ok: bool, now_s: float, slots: float) -> None:
        self._heard_s = now_s
        self._failures = 0
        if self.is_open and is_late:
            # From before the outage, and perhaps the last words of a server that shuts down:
            # reason enough to ask at once, and no proof that new requests get through.
            self.next_probe_s = now_s
            return
        if self.is_open:
            self.open_since_s = None
            self.next_probe_s = math.inf
            self._allowance = 1
        if is_ok:
            # One more for each success doubles the allowance in each round of them.
            self._allowance += 1
        if self._allowance > min(slots, _MOST_SLOW_START):
            self._allowance = math.inf

    def _is_stale(self, now_s: float) -> bool:
        return now_s - self._heard_s > STALE_S

    def _probe_delay_s(self, down_s: float) -> float:
        """Return when to probe again; up to a quarter earlier, so that workers do not meet."""
        delay_s = min(LAST_PROBE_S, max(FIRST_PROBE_S, down_s / PROBES_PER_OUTAGE))
        return delay_s * (1 - self._jitter() / 4)

    def __repr__(self) -> str:
        if self.is_open:
            return f"<Breaker open since {self.open_since_s:g} s, last: {self.last_error}>"
        if self.is_closed:
            return f"<Breaker closed, {self._failures} failures in a row>"
        return f"<Breaker in slow start, {self._running}/{self._allowance:g} in flight>"
