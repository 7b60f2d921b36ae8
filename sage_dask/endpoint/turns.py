"""When a request may be sent: quota, then rate, then a slot.

In this order, because the other way round requests that wait for the minute to
pass would hold slots that other jobs could use.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NoReturn

from sage_dask.endpoint.context import RequestContext
from sage_dask.endpoint.quota import Quota
from sage_dask.endpoint.rate import RateLimit
from sage_dask.endpoint.slots import Slot
from sage_dask.errors import StopRun


class Turns:
    """Where the calls of one stage in one process wait for their turn."""

    def __init__(
        self,
        rate: RateLimit,
        quota: Quota,
        max_outage_s: float,
        *,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        self._rate = rate
        self._quota = quota
        self._max_outage_s = max_outage_s
        self._clock = clock
        self._sleep = sleep

    async def take(self, context: RequestContext, prefix: str | None, tokens: int) -> Slot:
        """Wait for one's turn; the slot must be released once.

        Raises:
            StopRun: There is none within ``max_outage_s``.
        """
        await self._open_endpoints()
        self._rate.set_share(context.slots.share)
        await self._rate.take(tokens)
        try:
            return await self._slot(context, prefix)
        except BaseException:
            self._rate.give_back(tokens)
            raise

    async def _slot(self, context: RequestContext, prefix: str | None) -> Slot:
        while True:
            endpoints = await self._open_endpoints()
            context.slots.configure(endpoints, self._max_outage_s)
            slot = await context.slots.acquire(endpoints, context.job, context.task, prefix=prefix)
            if slot.endpoint in self._quota.open_endpoints(self._clock()):
                return slot
            slot.release("cancelled")  # Its quota ran out while we waited.

    async def _open_endpoints(self) -> tuple[str, ...]:
        """Return the endpoints that have quota, as soon as there is one."""
        while not (endpoints := self._quota.open_endpoints(self._clock())):
            wait_s = self._quota.wait_s(self._clock())
            if wait_s > self._max_outage_s:
                self._stop(wait_s)
            await self._sleep(wait_s)
        return endpoints

    def _stop(self, wait_s: float) -> NoReturn:
        raise StopRun(
            f"model server {' and '.join(self._quota.endpoints)}: wants no request for "
            f"{wait_s:.0f} s (Retry-After), longer than max_outage_s={self._max_outage_s:g}; "
            "run again then (what was written is kept), or raise max_outage_s"
        )
