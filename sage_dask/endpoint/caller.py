"""Calls to a model server, or to several replicas of it, with all that makes them dependable.

A call waits for the rate limit, then for a slot, sends its request, gives the
slot back, and starts over while that may help.  It holds a slot only while its
request is under way, so that a record that backs off holds up nobody.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from sage_dask import failpoint
from sage_dask.endpoint.address import check_endpoint
from sage_dask.endpoint.breaker import RequestOutcome
from sage_dask.endpoint.call_times import CallWatch, told_times
from sage_dask.endpoint.context import RequestContext, current
from sage_dask.endpoint.deadlines import Deadlines
from sage_dask.endpoint.failure import Broken, Busy, Failure, Unreachable
from sage_dask.endpoint.quota import Quota
from sage_dask.endpoint.rate import RateLimit
from sage_dask.endpoint.request import Request
from sage_dask.endpoint.retry import LONGEST_BUSY_S, shared_budget
from sage_dask.endpoint.secret import KeySource
from sage_dask.endpoint.slots import Slot
from sage_dask.endpoint.transport import Reply, Transport
from sage_dask.endpoint.tries import Limits, Tries
from sage_dask.endpoint.turns import Turns
from sage_dask.errors import PlanError


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model server answered."""

    body: Any
    """The JSON of the answer; a streamed one is put together into the same shape."""
    endpoint: str
    """Who answered."""
    latency_s: float
    """From sending to the last byte, of the try that was answered."""
    attempts: int
    """Requests that it took."""


@dataclass(frozen=True, slots=True)
class CallerStatistics:
    """What a caller did so far."""

    calls: int
    """Under way: waiting for a slot, sent, or backing off."""
    answered: int
    failed: int
    """Calls that ended without an answer, cancelled ones included."""
    sent: int
    """Requests, retries included."""


class Caller:
    """Sends the requests of one stage in one process, from one event loop.

    It holds a key and connections, and does not travel: operators make theirs
    in ``setup``.  For whom it sends is told by ``context.current()``.
    """

    def __init__(
        self,
        endpoints: Sequence[str],
        *,
        key: KeySource | None = None,
        deadlines: Deadlines | None = None,
        attempts: int = 4,
        max_outage_s: float = 600.0,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """Make ready to call.

        Args:
            endpoints: Base URLs of replicas: any of them may answer any request.
            key: Where this process finds the API key, if one is needed.
            deadlines: Of each try.
            attempts: Tries per call that may fail by the request's own fault.
            max_outage_s: How long calls wait for servers that are down or busy.
            requests_per_minute: Rate limit of the account, of which ``RequestSlots.share`` is ours.
            tokens_per_minute: The same for tokens, in both directions.
            clock: Time in seconds, for rates and for what calls spend their time on.
            sleep: What waits between tries.
            jitter: Returns random numbers in [0, 1).

        Raises:
            PlanError: An endpoint or a number makes no sense.
            SetupError: The key is not there.
        """
        if not endpoints:
            raise PlanError("a Caller has no endpoint to call; give at least one")
        if attempts < 1 or not max_outage_s > 0:
            raise PlanError(
                f"attempts={attempts} must be at least 1, and max_outage_s={max_outage_s} "
                "more than 0"
            )
        self.endpoints = tuple(dict.fromkeys(map(check_endpoint, endpoints)))
        self._limits = Limits(attempts, max_outage_s)
        self._budget = shared_budget(self.endpoints)
        self._rate = RateLimit(requests_per_minute, tokens_per_minute, clock=clock, sleep=sleep)
        self._quota = Quota(self.endpoints)
        self._turns = Turns(self._rate, self._quota, max_outage_s, clock=clock, sleep=sleep)
        self._transport = Transport(None if key is None else key.resolve(), deadlines)
        self._clock = clock
        self._sleep = sleep
        self._jitter = jitter
        self._answered_before: set[str] = set()
        self._calls = self._answered = self._failed = self._sent = 0

    async def call(
        self,
        path: str,
        body: Mapping[str, Any],
        *,
        prefix: str | None = None,
        tokens: int = 0,
        stream: bool = False,
        request_id: str | None = None,
    ) -> Answer:
        """Get one answer, with as many requests as it takes.

        Args:
            path: Below the endpoint, such as ``chat/completions``.
            body: The request, as plain values.
            prefix: What the request has in common with others, which should go to the
                same replica; None for no preference.
            tokens: Estimate of what the request and its answer take, for the rate limit.
            stream: Read the answer as it is written, which shows sooner that it was cut.
            request_id: What the server's log names the request; a number is added for each
                try.  By default a random one.

        Raises:
            CompletionError: This request got no answer; others may.
            StopRun: No other request would get one, either.
        """
        context = current()
        request = Request.of(path, body, stream=stream, name=request_id)
        context.slots.entered(context.task)
        self._calls += 1
        watch = CallWatch(context.calls, self._clock)
        answer = None
        try:
            tries = Tries(self._limits, self._budget, body.get("model"))
            answer = await self._answer(context, request, tries, watch, prefix, tokens)
            return answer
        finally:
            watch.end()
            self._calls -= 1
            self._failed += answer is None
            context.slots.left(context.task)

    def statistics(self) -> CallerStatistics:
        """Return what was done so far."""
        return CallerStatistics(self._calls, self._answered, self._failed, self._sent)

    async def close(self) -> None:
        """Give the connections back, on the loop that made the calls."""
        await self._transport.close()

    async def _answer(
        self,
        context: RequestContext,
        request: Request,
        tries: Tries,
        watch: CallWatch,
        prefix: str | None,
        tokens: int,
    ) -> Answer:
        """Try until there is an answer."""
        answered = self._answered
        while True:
            slot = await self._turns.take(context, prefix, tokens)
            is_probe = context.slots.down_s(slot.endpoint) is not None
            tries.sent += 1
            self._sent += 1
            context.usage.requests += 1
            context.usage.retries += tries.sent > 1
            watch.begin("sent_s")
            outcome, latency_s = await self._send(slot, request, tries.sent, watch)
            if isinstance(outcome, Reply):
                context.calls.note_answer(latency_s, told_times(outcome.body))
                self._rate.correct(tokens, _tokens_used(outcome.body, tokens))
                return Answer(outcome.body, slot.endpoint, latency_s, tries.sent)
            if not isinstance(outcome, Broken):
                self._rate.correct(tokens, 0)  # No model has worked on it.
            self._note_quota(slot.endpoint, outcome)
            wait_s = tries.wait_after(
                outcome,
                endpoint=slot.endpoint,
                is_down=context.slots.down_s(slot.endpoint) is not None,
                is_probe=is_probe,
                others_answered=self._answered > answered,
                jitter=self._jitter(),
            )
            watch.begin("backoff_s")
            await self._sleep(wait_s)
            watch.begin("turn_s")

    async def _send(
        self, slot: Slot, request: Request, number: int, watch: CallWatch
    ) -> tuple[Reply | Failure, float]:
        """Send once, and give the slot back however that ends; return the latency too."""
        outcome: RequestOutcome = "cancelled"
        latency_s = 0.0
        said = ""
        try:
            failpoint.reach("call")
            result = await self._transport.post(
                slot.endpoint,
                request,
                request_id=f"{request.id}-{number}",
                attempt=number,
                answered_before=slot.endpoint in self._answered_before,
            )
            failpoint.reach("answer")
            latency_s = watch.seconds
            outcome, said = _outcome(result)
        finally:
            slot.release(outcome, latency_s, said)
        if isinstance(result, Reply):
            self._answered += 1
            self._answered_before.add(slot.endpoint)
            self._budget.succeeded()
        return result, latency_s

    def _note_quota(self, endpoint: str, failure: Failure) -> None:
        if isinstance(failure, Busy) and (failure.retry_after_s or 0.0) > LONGEST_BUSY_S:
            self._quota.pause(endpoint, self._clock() + (failure.retry_after_s or 0.0))

    def __repr__(self) -> str:
        return (
            f"<Caller of {', '.join(self.endpoints)}: {self._calls} calls under way, "
            f"{self._answered} answered, {self._failed} failed, {self._sent} requests>"
        )

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError(
            "a Caller holds a key and open connections and does not travel; "
            "send the operator that makes it in setup()"
        )


def _outcome(result: Reply | Failure) -> tuple[RequestOutcome, str]:
    """Return what a try says of its server; one that refuses a request is well."""
    if isinstance(result, Broken | Unreachable):
        return "failed", result.said
    if isinstance(result, Busy):
        return "busy", result.said
    return "ok", ""


def _tokens_used(body: Any, estimate: int) -> float:
    """Return the tokens that the server counted, or the estimate where it does not say."""
    usage = body.get("usage") if isinstance(body, Mapping) else None
    used = usage.get("total_tokens") if isinstance(usage, Mapping) else None
    return used if isinstance(used, int) else estimate
