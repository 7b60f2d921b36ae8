"""Where the time of calls to a model server goes: by our own clock, and as the server tells.

Our clock divides each call without a gap, so that its parts add up to the whole.
What a server tells lies within the time that was measured from here; the rest of
that is the way there and back, and what the server does beside its engine.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from sage_dask.endpoint.sums import Sums

# What a call spends its time on, one after the other and over again with each try.
Part: TypeAlias = Literal["turn_s", "sent_s", "backoff_s"]

# What vLLM calls in its answers what we call otherwise, there in milliseconds.
_TOLD = {
    "queue_time_ms": "queue_s",
    "time_to_first_token_ms": "first_token_s",
    "generation_time_ms": "generation_s",
}

# A day: no request takes as long, and sums of times up to here stay numbers.
_MOST_MS = 86_400_000.0


@dataclass(slots=True)
class CallTimes(Sums):
    """The calls of one stage or job, and the seconds that they took, all added up.

    ``turn_s + sent_s + backoff_s`` is the time of all calls from beginning to end.
    """

    calls: int = 0
    """That ended, answered or not; an answer from the response cache is no call."""
    turn_s: float = 0.0
    """Waiting to be sent: for quota, for the rate limit, for a slot."""
    sent_s: float = 0.0
    """From sending to the last byte or the failure, over all tries."""
    backoff_s: float = 0.0
    """Between tries."""
    told: int = 0
    """Tries whose answer tells the times below, which are the server's own."""
    told_sent_s: float = 0.0
    """Their share of ``sent_s``."""
    queue_s: float = 0.0
    """From the arrival at the engine until it was scheduled."""
    first_token_s: float = 0.0
    """From there until the first token: the prefill."""
    generation_s: float = 0.0
    """From the first token to the last."""

    def note_answer(self, sent_s: float, told: Mapping[str, float]) -> None:
        """Count what the answer to one try told of the server's times.

        Args:
            sent_s: What the try took by our clock.
            told: As ``told_times`` returns it.  Some of the times without the others count for
                nothing, since sums of them would not belong to the same tries.
        """
        if len(told) == len(_TOLD):
            self.add(CallTimes.from_dict({"told": 1, "told_sent_s": sent_s, **told}))


class CallWatch:
    """Divides the time of one call among its parts: one ends in the moment the next begins.

    Args:
        times: Where the parts are added.
        clock: Time in seconds.
    """

    __slots__ = ("_clock", "_part", "_since_s", "_times")

    def __init__(self, times: CallTimes, clock: Callable[[], float]) -> None:
        self._times = times
        self._clock = clock
        self._part: Part = "turn_s"
        self._since_s = clock()

    @property
    def seconds(self) -> float:
        """What the present part took so far."""
        return self._clock() - self._since_s

    def begin(self, part: Part) -> None:
        """End the present part, and begin another."""
        self._stop()
        self._part = part

    def end(self) -> None:
        """End the call, however it went."""
        self._stop()
        self._times.calls += 1

    def _stop(self) -> None:
        now_s = self._clock()
        before_s = getattr(self._times, self._part)
        setattr(self._times, self._part, before_s + now_s - self._since_s)
        self._since_s = now_s


def told_times(body: Any) -> dict[str, float]:
    """Return the times that an answer tells of itself, in seconds, by the names of ``CallTimes``.

    They are what vLLM says under ``--enable-per-request-metrics``; what it could not measure,
    or what is no time, is left out.
    """
    metrics = body.get("metrics") if isinstance(body, Mapping) else None
    given = metrics if isinstance(metrics, Mapping) else {}
    return {
        ours: given[theirs] / 1000.0
        for theirs, ours in _TOLD.items()
        if _is_time(given.get(theirs))
    }


def _is_time(value: Any) -> bool:
    # JSON may hold NaN, and whole numbers that no float can.
    return type(value) in (int, float) and 0 <= value <= _MOST_MS
