"""When to ask a model server again: the decision alone, without clock or network."""

from __future__ import annotations

from dataclasses import dataclass

# The first wait spans a hiccup, the last one a restart of a small server; doubling in between.
_BASE_S = 0.5
_CAP_S = 20.0
# A server that wants to be left alone for longer is out of quota, not busy.
_LONGEST_RETRY_AFTER_S = 120.0


@dataclass(frozen=True, slots=True)
class Retry:
    """Exponential backoff with full jitter, in a bounded number of attempts."""

    attempts: int = 4
    """Tries in all, the first one included."""

    def delay_s(self, failed: int, retry_after_s: float | None, jitter: float) -> float | None:
        """Return how long to wait before the next try, or None to give up.

        Args:
            failed: Tries that have failed so far, at least 1.
            retry_after_s: What the server asked for, if it did; never undercut.
            jitter: A random number in [0, 1); it spreads clients that failed together.
        """
        if failed >= self.attempts or (retry_after_s or 0.0) > _LONGEST_RETRY_AFTER_S:
            return None
        return (retry_after_s or 0.0) + jitter * min(_CAP_S, _BASE_S * 2.0 ** (failed - 1))


def parse_retry_after(value: str | None) -> float | None:
    """Return the seconds of a ``Retry-After`` header; None for its date form or nonsense.

    Dates would need both clocks to agree; no known model server sends them.
    """
    try:
        seconds = float(value or "")
    except ValueError:
        return None
    return seconds if 0.0 <= seconds < float("inf") else None
