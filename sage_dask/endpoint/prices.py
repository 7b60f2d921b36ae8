"""What tokens cost: the prices that a user gives, and the bill they make.

Prices are per million tokens, as providers print them, in any one currency.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sage_dask.endpoint.usage import Usage
from sage_dask.errors import PlanError, did_you_mean, listed

_TOKENS_PER_PRICE = 1_000_000
_KNOWN = ("prompt", "completion", "cached")


@dataclass(frozen=True, slots=True)
class Prices:
    """Prices of one model, per million tokens."""

    prompt: float = 0.0
    completion: float = 0.0
    cached: float | None = None
    """Of prompt tokens that the server found in its prefix cache; None where they cost the same."""

    @classmethod
    def of(cls, given: Mapping[str, float]) -> Prices:
        """Read prices as users write them: ``{"prompt": 0.15, "completion": 0.60}``.

        Raises:
            PlanError: A key is unknown, or a price is no number from 0 up.
        """
        for name, price in given.items():
            if name not in _KNOWN:
                raise PlanError(
                    f"price: unknown key {name!r}; known are {listed(_KNOWN)}"
                    f"{did_you_mean(name, _KNOWN)}"
                )
            if not _is_price(price):
                raise PlanError(
                    f"price: {name!r} is {price!r}, and a number from 0 up is wanted; prices are "
                    "per million tokens"
                )
        return cls(**{name: float(price) for name, price in given.items()})

    def cost(self, usage: Usage) -> float:
        """Return what the tokens of ``usage`` cost; answers from the response cache cost none."""
        # A server that counts more cached tokens than tokens must not make a bill negative.
        cached = min(usage.cached_tokens, usage.prompt_tokens)
        cached_price = self.prompt if self.cached is None else self.cached
        total = (
            (usage.prompt_tokens - cached) * self.prompt
            + cached * cached_price
            + usage.completion_tokens * self.completion
        )
        return total / _TOKENS_PER_PRICE


def _is_price(value: Any) -> bool:
    """Tell a price from a text, ``True``, infinity or NaN."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and 0 <= value < float("inf")
