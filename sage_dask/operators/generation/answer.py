"""From the body of a server's answer to texts and what is told beside them.

An answer without text is an error, whatever its status said: no refusal and no
error text ever passes for an answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sage_dask.completion import CompletionError
from sage_dask.endpoint.call_times import told_times
from sage_dask.operators.generation.request import num_choices


@dataclass(frozen=True, slots=True)
class Choice:
    """One of the answers to one request."""

    text: str
    finish_reason: str | None = None
    """Why the text ends: ``"stop"``, ``"length"``, or what else the server says."""
    logprobs: Sequence[Mapping[str, Any]] | None = None
    """Per token ``token``, ``logprob`` and, if asked for, ``top_logprobs``."""


@dataclass(frozen=True, slots=True)
class Reply:
    """All answers to one request, and what the server tells of itself."""

    choices: tuple[Choice, ...]
    model: str
    usage: Mapping[str, Any] = field(default_factory=dict)
    timing: Mapping[str, float] = field(default_factory=dict)
    """Seconds, where the server measures them: ``queue_s``, ``first_token_s``, ``generation_s``."""

    @classmethod
    def read(cls, answer: Any, request: Mapping[str, Any]) -> Reply:
        """Read an answer to a request for chat or plain completions.

        Raises:
            CompletionError: It holds no text, or fewer answers than were asked for.
        """
        try:
            given = sorted(answer["choices"], key=lambda choice: choice.get("index", 0))
            choices = tuple(map(_choice, given))
        except (LookupError, TypeError, AttributeError) as error:
            raise _no_text(answer) from error
        if not choices:
            raise _no_text(answer)
        if len(choices) != num_choices(request):
            raise CompletionError(
                f"the model server gave {len(choices)} answers where n={num_choices(request)} "
                "were asked for; see that it supports n, or ask for one at a time"
            )
        return cls(
            choices,
            model=str(answer.get("model") or request["model"]),
            usage=answer.get("usage") or {},
            timing=told_times(answer),
        )

    def meta(self) -> dict[str, Any]:
        """Return everything but the texts, as plain values."""
        reasons = [choice.finish_reason for choice in self.choices]
        return {
            "model": self.model,
            "usage": dict(self.usage),
            "finish_reason": reasons[0] if len(reasons) == 1 else reasons,
            **self.timing,
        }


def _choice(choice: Mapping[str, Any]) -> Choice:
    message = choice.get("message")
    text = choice["text"] if message is None else message["content"]
    if not isinstance(text, str):
        raise TypeError("no text")  # A refusal or a tool call leaves the content null.
    return Choice(text, choice.get("finish_reason"), _logprobs(choice.get("logprobs")))


def _logprobs(given: Any) -> list[dict[str, Any]] | None:
    """Return log probabilities in one form, whichever of the two APIs gave them."""
    if not isinstance(given, Mapping):
        return None
    if "content" in given:
        return [_token(each) for each in given["content"] or ()]
    tops = given.get("top_logprobs") or [None] * len(given["tokens"])
    return [
        {"token": token, "logprob": logprob}
        | ({"top_logprobs": [{"token": t, "logprob": p} for t, p in top.items()]} if top else {})
        for token, logprob, top in zip(given["tokens"], given["token_logprobs"], tops, strict=True)
    ]


def _token(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return one token of a chat answer without its bytes, which its text tells as well."""
    token = {"token": given["token"], "logprob": given["logprob"]}
    if tops := given.get("top_logprobs"):
        token["top_logprobs"] = [{"token": t["token"], "logprob": t["logprob"]} for t in tops]
    return token


def _no_text(answer: Any) -> CompletionError:
    """Say what came instead of a text, by its form: its words may repeat a key."""
    return CompletionError(
        f"the model server answered without text, but with {_form(answer)}; "
        "see that api=... and extra=... ask for plain text"
    )


def _form(answer: Any) -> str:
    if not isinstance(answer, Mapping):
        return f"{type(answer).__name__} where an object was due"
    if not answer.get("choices"):
        return f"no choices (its keys are {', '.join(map(repr, answer)) or 'none'})"
    return _form_of_choice(answer["choices"][0]) if isinstance(answer["choices"], list) else "junk"


def _form_of_choice(choice: Any) -> str:
    if not isinstance(choice, Mapping):
        return f"a choice that is {type(choice).__name__}"
    message = choice.get("message")
    filled = message if isinstance(message, Mapping) else choice
    keys = [key for key, value in filled.items() if value not in (None, "", [])]
    return f"a choice of {', '.join(map(repr, keys)) or 'nothing'}"
