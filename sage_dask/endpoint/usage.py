"""What requests cost: counts that add up, from one answer to a whole job."""

from __future__ import annotations

from dataclasses import dataclass

from sage_dask.endpoint.sums import Sums


@dataclass(slots=True)
class Usage(Sums):
    """Requests and tokens of one answer, stage or job."""

    requests: int = 0
    """Sent to a server, retries included."""
    retries: int = 0
    """Of those, sent again after a failed try."""
    cache_hits: int = 0
    """Answered from the response cache, and not sent."""
    prompt_tokens: int = 0
    cached_tokens: int = 0
    """Of the prompt tokens, those that the server found in its prefix cache, where it says so."""
    completion_tokens: int = 0
    cost: float = 0.0
    """In the currency of the prices that the user gave; 0.0 without prices."""

    @property
    def tokens(self) -> int:
        """Tokens in both directions."""
        return self.prompt_tokens + self.completion_tokens
