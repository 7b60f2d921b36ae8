"""How one record's tries go on: again, after what wait, or no more and why.

Pure: told what came back, it answers with a wait or raises.  Only a try that
the record itself may have spoilt counts against it; a busy, unreachable or
downed server costs it patience instead, and that ends with ``max_outage_s``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NoReturn

from sage_dask.completion import CompletionError
from sage_dask.endpoint.failure import Broken, Busy, Failure, Fatal, Refused
from sage_dask.endpoint.retry import LONGEST_BUSY_S, Backoff, RetryBudget
from sage_dask.errors import StopRun, counted


@dataclass(frozen=True, slots=True)
class Limits:
    """What bounds the tries of every record."""

    attempts: int = 4
    """Tries that may be a record's own fault."""
    max_outage_s: float = 600.0
    """The longest that a record backs off for reasons of the server's."""
    backoff: Backoff = field(default_factory=Backoff)


@dataclass(slots=True)
class Tries:
    """The tries of one record so far."""

    limits: Limits
    budget: RetryBudget
    model: str | None = None
    """Who is asked, for messages."""
    sent: int = 0
    _failed: int = 0
    _blamed: int = 0
    _waited_s: float = 0.0

    def wait_after(
        self,
        failure: Failure,
        *,
        endpoint: str,
        is_down: bool,
        is_probe: bool,
        others_answered: bool,
        jitter: float,
    ) -> float:
        """Return how long to wait before the next try, in seconds.

        Args:
            failure: What the last try brought.
            endpoint: From whom.
            is_down: Whether the server's circuit breaker is open.
            is_probe: Whether it was open already when the try was sent.
            others_answered: Whether any record was answered since this one's first failure.
            jitter: A random number in [0, 1).

        Raises:
            CompletionError: No more tries; other records may fare better.
            StopRun: No other record would fare better.
        """
        server = f"model server {endpoint}" + (f" (model {self.model!r})" if self.model else "")
        if isinstance(failure, Fatal):
            raise StopRun(f"{server}: {failure.said}; {failure.mend}")
        if isinstance(failure, Refused):
            raise CompletionError(
                f"{server} refused the request: {failure.said}; "
                "shorten it or change what the message names",
                self.sent,
            )
        self._failed += 1
        # What a server that goes down takes along is not to blame.  A probe that the server takes,
        # and breaks, is: records that always do would keep it down once no others are left.
        if isinstance(failure, Broken) and (is_probe or not is_down):
            self._blame(failure, server, needs_budget=not is_down)
        # Downed servers are probed at the breaker's pace; a long wait here would only add to it.
        wait_s = self.limits.backoff.delay_s(
            1 if is_down else self._failed, _retry_after_s(failure), jitter
        )
        self._waited_s += wait_s
        if self._waited_s > self.limits.max_outage_s:
            self._lose_patience(failure, server, others_answered)
        return wait_s

    def _blame(self, failure: Broken, server: str, *, needs_budget: bool) -> None:
        """Count a try against the record, and the retry that is to follow against the budget.

        Probes need no budget: the breaker bounds how often they are sent.
        """
        self._blamed += 1
        tries = f"{counted(self.sent, 'attempt')}, last: {failure.said}"
        if self._blamed >= self.limits.attempts:
            raise CompletionError(
                f"{server} gave no answer ({tries}); see that it runs and is not "
                "overloaded, or raise attempts",
                self.sent,
            )
        if needs_budget and not self.budget.take():
            retries, successes = self.budget.statistics()
            raise CompletionError(
                f"{server} gave no answer ({tries}), and is not asked again: "
                f"{counted(retries, 'repeat')} for {counted(successes, 'answer')} are as many as "
                "it should be sent; see its log for why it fails so often",
                self.sent,
            )

    def _lose_patience(self, failure: Failure, server: str, others_answered: bool) -> NoReturn:
        told = (
            f"turned this request away {self.sent} times, with {self._waited_s:.0f} s of waiting "
            f"in between (last: {failure.said})"
        )
        if others_answered:
            raise CompletionError(
                f"{server} {told}, while it answered others; make the request smaller, "
                "or raise max_outage_s",
                self.sent,
            )
        raise StopRun(
            f"{server} {told} and answered no other; see that it is not overloaded or out "
            "of quota, then run again (what was written is kept)"
        )


def _retry_after_s(failure: Failure) -> float | None:
    """Return the wait that a server asked of this record; longer ones concern all records."""
    wanted_s = failure.retry_after_s if isinstance(failure, Busy) else None
    return wanted_s if (wanted_s or 0.0) <= LONGEST_BUSY_S else None
