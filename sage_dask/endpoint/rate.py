"""Rate limits of metered APIs: requests and tokens per minute, in series.

A bucket here is a moment: the time at which all that was taken so far is paid
for.  It moves on with each amount taken, and stays near the present when idle.
Whoever is first in line waits for the buckets, everyone else for the line.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from sage_dask.errors import PlanError

# What a bucket saves up while idle: enough that a late wake-up costs no throughput, so little
# that a burst after a pause is no burst.
_SLACK_S = 0.25
# Less than any timer can wait; a sum of floats may miss its goal by so much, and for ever.
_EPSILON_S = 1e-6
# How soon whoever waits notices that the share of this process has changed.
_LONGEST_NAP_S = 1.0


@dataclass(slots=True)
class Bucket:
    """A token bucket in its virtual-scheduling form (GCRA, ITU-T I.371).

    No 60 seconds hold more than ``per_minute``, the last amount taken in them
    aside: the rate is lowered by what the slack may add.
    """

    per_minute: float
    share: float = 1.0
    """Part of the rate that is ours."""
    paid_at_s: float = float("-inf")
    """When all that was taken so far is paid for."""

    def wait_s(self, now_s: float) -> float:
        """Return how long to wait until something may be taken."""
        wait_s = self.paid_at_s - now_s
        return wait_s if wait_s > _EPSILON_S else 0.0

    def take(self, amount: float, now_s: float) -> None:
        """Take an amount; more than is there delays whoever comes next."""
        self.paid_at_s = max(self.paid_at_s, now_s - _SLACK_S) + self._seconds(amount)

    def give_back(self, amount: float) -> None:
        """Correct what was taken: less than zero takes more."""
        self.paid_at_s -= self._seconds(amount)

    def set_share(self, share: float, now_s: float) -> None:
        """Change our part of the rate; what is not paid for yet is paid at the new rate."""
        unpaid_s = self.paid_at_s - now_s
        if unpaid_s > 0.0:
            self.paid_at_s = now_s + unpaid_s * self.share / share
        self.share = share

    def _seconds(self, amount: float) -> float:
        return amount * (60.0 + _SLACK_S) / (self.per_minute * self.share)


class RateLimit:
    """Requests and tokens per minute of one process; either may be unlimited.

    The limits are those of the account, so the processes of a run have to share
    them: whoever knows how requests are divided tells each its part by
    ``set_share``.  Alone, a process has all of it.
    """

    def __init__(
        self,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        *,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._requests = _bucket("requests_per_minute", requests_per_minute)
        self._tokens = _bucket("tokens_per_minute", tokens_per_minute)
        self._buckets = [each for each in (self._requests, self._tokens) if each is not None]
        self._clock = clock
        self._sleep = sleep
        self._line = asyncio.Lock()  # Gives way in order of arrival.

    def set_share(self, fraction: float) -> None:
        """Have this process use a fraction of the limits, more than 0 and at most 1."""
        if not 0.0 < fraction <= 1.0:
            raise ValueError(f"the share of a rate limit is {fraction}, not in (0, 1]")
        for bucket in self._buckets:
            bucket.set_share(fraction, self._clock())

    async def take(self, tokens: float) -> None:
        """Wait until one request of an estimated number of tokens may be sent, and count it."""
        if not self._buckets:
            return
        async with self._line:
            while (wait_s := max(each.wait_s(self._clock()) for each in self._buckets)) > 0.0:
                await self._sleep(min(wait_s, _LONGEST_NAP_S))
            now_s = self._clock()
            if self._requests is not None:
                self._requests.take(1.0, now_s)
            if self._tokens is not None:
                self._tokens.take(tokens, now_s)

    def correct(self, estimated: float, used: float) -> None:
        """Replace an estimate by the tokens that the server counted."""
        if self._tokens is not None:
            self._tokens.give_back(estimated - used)

    def give_back(self, tokens: float) -> None:
        """Take back a request that was not sent after all."""
        if self._requests is not None:
            self._requests.give_back(1.0)
        self.correct(tokens, 0.0)


def _bucket(name: str, per_minute: float | None) -> Bucket | None:
    if per_minute is None:
        return None
    if not per_minute > 0:
        raise PlanError(f"{name}={per_minute} must be more than 0; leave it out for no limit")
    return Bucket(per_minute)
