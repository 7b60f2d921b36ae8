"""What requests cost: counts that add up, from one answer to a whole job."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any


@dataclass(slots=True)
class Usage:
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

    def add(self, other: Usage) -> None:
        """Count what another counted."""
        for each in fields(self):
            setattr(self, each.name, getattr(self, each.name) + getattr(other, each.name))

    def as_dict(self) -> dict[str, float]:
        """Return the counts that are not zero."""
        return {each.name: value for each in fields(self) if (value := getattr(self, each.name))}

    @classmethod
    def from_dict(cls, counts: Mapping[str, Any]) -> Usage:
        """Return the counts of a dict made by ``as_dict``."""
        return cls(**counts)

    def __bool__(self) -> bool:
        return bool(self.as_dict())
