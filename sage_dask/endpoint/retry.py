"""When to ask a model server again: decisions alone, without clock or network.

Three bounds hold at once: a growing wait between tries, a number of tries per
record (the caller's), and a budget that all records share, so that a server
that fails often is not asked a multiple of what it could not answer.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from weakref import WeakValueDictionary

# A server that wants to be left alone for longer is out of quota, not busy.
LONGEST_BUSY_S = 120.0


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential backoff with full jitter: any wait from nothing to a growing longest one."""

    # The first wait spans a hiccup, the last one a restart of a small server.
    base_s: float = 0.5
    cap_s: float = 20.0

    def delay_s(self, failed: int, retry_after_s: float | None, jitter: float) -> float:
        """Return how long to wait before the next try.

        Args:
            failed: Tries that have failed in a row, at least 1.
            retry_after_s: What the server asked for, if it did; never undercut.
            jitter: A random number in [0, 1); it spreads clients that failed together.
        """
        # The exponent is bounded too: 2.0 ** 1024 overflows after a night of Busy answers.
        longest_s = min(self.cap_s, self.base_s * 2.0 ** min(failed - 1, 30))
        return (retry_after_s or 0.0) + jitter * longest_s


class RetryBudget:
    """Retries that all records of a process may use: a tenth of the successes, and ten.

    Ten let a young run retry at all; a tenth bounds what a server that fails
    now and then is asked on top.
    """

    def __init__(self, share: float = 0.1, initial: int = 10) -> None:
        self._share = share
        self._initial = initial
        self._successes = 0
        self._retries = 0
        # Callers of one process may run on several loops; counting must not lose any.
        self._lock = threading.Lock()

    def succeeded(self) -> None:
        """Count a request that went well."""
        with self._lock:
            self._successes += 1

    def take(self) -> bool:
        """Use one retry; False, and none is used, if there is none left."""
        with self._lock:
            if self._retries + 1 > self._share * self._successes + self._initial:
                return False
            self._retries += 1
            return True

    def statistics(self) -> tuple[int, int]:
        """Return retries used, and successes counted."""
        return self._retries, self._successes

    def __repr__(self) -> str:
        return f"<RetryBudget {self._retries} retries, {self._successes} successes>"


_budgets: WeakValueDictionary[frozenset[str], RetryBudget] = WeakValueDictionary()
_budgets_lock = threading.Lock()


def shared_budget(endpoints: Iterable[str]) -> RetryBudget:
    """Return this process's budget for a set of endpoints; it lives as long as it is held."""
    key = frozenset(endpoints)
    with _budgets_lock:
        budget = _budgets.get(key)
        if budget is None:
            budget = _budgets[key] = RetryBudget()
        return budget


def parse_retry_after(value: str | None, now: datetime) -> float | None:
    """Return the seconds of a ``Retry-After`` header; None for nonsense.

    Args:
        value: The header: seconds, or an HTTP date (RFC 9110, 10.2.3).
        now: The present time with its zone; a date in the past means 0.0.
    """
    try:
        seconds = float(value or "")
    except ValueError:
        return _seconds_until(value or "", now)
    return seconds if 0.0 <= seconds < float("inf") else None


def _seconds_until(date: str, now: datetime) -> float | None:
    try:
        then = parsedate_to_datetime(date)
    except (ValueError, OverflowError):
        return None
    if then.tzinfo is None:
        then = then.replace(tzinfo=UTC)  # "-0000", and dates that forget their zone.
    return max(0.0, (then - now).total_seconds())
