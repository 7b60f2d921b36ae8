"""What an engine is given, and what it tells: the seam between timing and serving."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Protocol, TypeAlias

# Tokens of a block of the KV cache, as in vLLM.
BLOCK_TOKENS = 16


@dataclass(frozen=True, slots=True)
class Work:
    """One sequence to compute: a prompt, and the answer that it will get."""

    key: Hashable
    prompt_tokens: int
    """At least one."""
    answer_tokens: int
    """0 for a prompt that is only embedded or scored."""
    blocks: tuple[int, ...] = ()
    """A key for each full block of the prompt; equal keys stand for equal prefixes."""
    is_streamed: bool = False
    """Whether anyone wants to know of each token."""


@dataclass(frozen=True, slots=True)
class Produced:
    """A streamed sequence has got further."""

    key: Hashable
    tokens: int
    """Of its answer, so far."""


@dataclass(frozen=True, slots=True)
class Finished:
    """A sequence is done; all times in seconds of the engine's clock."""

    key: Hashable
    arrived_s: float
    started_s: float
    first_token_s: float
    finished_s: float
    cached_tokens: int
    """Of the prompt, those that the prefix cache knew."""


EngineEvent: TypeAlias = Produced | Finished


@dataclass(frozen=True, slots=True)
class EngineStatistics:
    """An engine at one moment, and what it counted since it began."""

    running: int
    waiting: int
    kv_usage: float
    """Share of the KV cache in use, 0 to 1."""
    preemptions: int
    prefix_queries: int
    """Prompt tokens that were looked up in the prefix cache."""
    prefix_hits: int
    """Of those, found."""


class Engine(Protocol):
    """What decides when each sequence is done; it has no clock and does no I/O.

    Times given to an engine never decrease, and ``advance`` comes before what else happens at
    that time.
    """

    def submit(self, work: Work, now_s: float) -> None:
        """Queue a sequence; it starts at once if there is room."""
        ...

    def cancel(self, key: Hashable, now_s: float) -> None:
        """Forget a sequence whoever wants it has given up; unknown ones are ignored."""
        ...

    def advance(self, now_s: float) -> list[EngineEvent]:
        """Let time pass, and return what happened, in the order in which it did."""
        ...

    @property
    def next_s(self) -> float | None:
        """When something happens next; None if nothing will by itself."""
        ...

    def statistics(self) -> EngineStatistics:
        """Return the counts of this moment."""
        ...
