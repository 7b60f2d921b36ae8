"""How answers are drawn from a model: the parameters that all servers share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sage_dask.errors import PlanError


@dataclass(kw_only=True)
class Sampling:
    """Parameters of an operator that has a model write."""

    max_tokens: int | None = 256
    """Longest answer in tokens; None leaves it to the server."""
    temperature: float | None = 0.7
    """0 for the likeliest answer; None leaves it to the server."""
    top_p: float | None = None
    """Share of the probability, above 0 and up to 1, that tokens are drawn from."""
    stop: str | Sequence[str] | None = None
    """Text, or texts, before which an answer ends."""
    seed: int | str | None = None
    """Of the draw: a number, or ``"record"`` to derive one from what each record asks."""
    n: int = 1
    """Answers per record."""
    logprobs: int | bool = False
    """Whether ``<into>_logprobs`` takes each token's log probability; a number asks for those
    of as many alternatives, too."""

    def check_sampling(self) -> None:
        """Raise ``PlanError`` for what no server accepts."""
        for name in ("max_tokens", "n"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise PlanError(f"Generate: {name}={value} must be at least 1")
        if self.temperature is not None and self.temperature < 0:
            raise PlanError(f"Generate: temperature={self.temperature} must be 0 or more")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise PlanError(f"Generate: top_p={self.top_p} must be above 0 and at most 1")
        if isinstance(self.seed, str) and self.seed != "record":
            raise PlanError(f"Generate: seed={self.seed!r} is neither a number nor 'record'")
        if self.logprobs < 0:
            raise PlanError(f"Generate: logprobs={self.logprobs} must be 0 or more")

    def sampling(self, api: str) -> dict[str, Any]:
        """Return the fields of a request that say this, the seed aside."""
        given: dict[str, Any] = {
            "max_tokens": self.max_tokens,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "stop": list(self.stop) if isinstance(self.stop, tuple) else self.stop,
            "n": self.n if self.n > 1 else None,
            **self._logprobs(api),
        }
        return {name: value for name, value in given.items() if value is not None}

    def _logprobs(self, api: str) -> dict[str, Any]:
        if not self.logprobs:
            return {}
        if api == "completions":
            return {"logprobs": int(self.logprobs)}
        has_number = not isinstance(self.logprobs, bool)
        return {"logprobs": True, "top_logprobs": self.logprobs if has_number else None}
