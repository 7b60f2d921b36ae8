"""What a text model is asked, and what it answers, whoever asks.

The seam between those who want text (the generate operator, a model server)
and those who produce it (an HTTP client, an engine in the process, a fake).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias, runtime_checkable

from sage_dask.errors import SageError

# One turn of a chat: {"role": "user", "content": "..."}.
Message: TypeAlias = Mapping[str, Any]

# A bare string stands for one user message.
PromptLike: TypeAlias = str | Sequence[Message]


class CompletionError(SageError):
    """One prompt got no answer; the next one may."""

    def __init__(self, message: str, attempts: int = 1) -> None:
        super().__init__(message, attempts)
        self.attempts = attempts

    def __str__(self) -> str:
        return str(self.args[0])


@dataclass(frozen=True, slots=True)
class Completion:
    """One answer, and what it cost."""

    text: str
    model: str
    """Who answered, in the answerer's own words."""
    finish_reason: str | None = None
    """Why the text ends: ``"stop"``, ``"length"``, or what else the model says."""
    usage: Mapping[str, Any] = field(default_factory=dict)
    """Token counts as the model reports them; empty where it does not."""
    latency_s: float = 0.0
    """From asking to the last byte of the answer, failed tries and queueing excluded."""
    sources: tuple[str, ...] = ()
    """Ids of the passages that the text was taken from, where it was taken from any."""

    def meta(self) -> dict[str, Any]:
        """Return everything but the text, as plain values."""
        row: dict[str, Any] = {
            "model": self.model,
            "usage": dict(self.usage),
            "finish_reason": self.finish_reason,
            "latency_s": self.latency_s,
        }
        if self.sources:
            row["sources"] = list(self.sources)
        return row


@runtime_checkable
class TextModel(Protocol):
    """Anything that turns a prompt into text and is worth waiting for."""

    async def complete(self, prompt: PromptLike) -> Completion:
        """Answer one prompt; many calls may be under way at once.

        Raises:
            CompletionError: This prompt got no answer.
            StopRun: No further prompt can get one, such as with a refused key.
        """
        ...
