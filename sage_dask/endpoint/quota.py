"""Servers that want to be left alone by everyone for a while, as their quota is used up."""

from __future__ import annotations

from collections.abc import Sequence


class Quota:
    """Which of a stage's endpoints may be asked now, and when the next one may.

    A ``Retry-After`` of seconds concerns the request that got it.  One of
    minutes or hours speaks of the account: another record would only be turned
    away as well, and be charged for it by some clouds.
    """

    def __init__(self, endpoints: Sequence[str]) -> None:
        self.endpoints = tuple(endpoints)
        self._open_at_s = dict.fromkeys(endpoints, float("-inf"))

    def pause(self, endpoint: str, until_s: float) -> None:
        """Leave an endpoint alone until a moment; an earlier one changes nothing."""
        self._open_at_s[endpoint] = max(self._open_at_s[endpoint], until_s)

    def open_endpoints(self, now_s: float) -> tuple[str, ...]:
        """Return the endpoints that may be asked, in their order."""
        return tuple(name for name, at_s in self._open_at_s.items() if at_s <= now_s)

    def wait_s(self, now_s: float) -> float:
        """Return how long it takes until one of the endpoints may be asked; 0.0 if one may now."""
        return max(0.0, min(self._open_at_s.values()) - now_s)
