"""From a record to the body of a request, without a server in sight.

The body is all that an answer depends on, so that it can be sent, estimated for
a dry run and looked up in a cache alike.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sage_dask.record import Record

# An OpenAI tokenizer's rule of thumb for English text; within a quarter for most models.
_CHARS_PER_TOKEN = 4
# Prompts that share this much of their beginning mostly share a template; a replica that has
# seen it holds its attention keys.  Longer prefixes would also tell questions apart.
_PREFIX_CHARS = 512
# How answers travel is the caller's business, and never the record's.
_TRANSPORT = ("stream", "stream_options")


@dataclass(frozen=True, slots=True)
class RequestForm:
    """What the requests of one stage have in common; each record fills in the rest."""

    api: str
    """``"chat"`` or ``"completions"``."""
    model: str | None
    """None leaves it to each record's own parameters."""
    prompt: str
    """Field that holds a text or, for chat, a list of messages."""
    system: str | None = None
    """First message of each chat that does not bring its own."""
    fixed: Mapping[str, Any] = field(default_factory=dict)
    """Parameters of each request, where a record has none of its own."""
    response_format: Mapping[str, Any] | None = None
    """What answers must look like; a record can not change that."""
    parameters: str | None = None
    """Field that holds a record's own parameters."""
    seed: int | str | None = None
    """A number, or ``"record"`` to derive one from what is asked."""
    priority: int | str | None = None
    """A number, or the field that holds it; higher is served first."""

    @property
    def path(self) -> str:
        """Where requests go, below the endpoint."""
        return "chat/completions" if self.api == "chat" else "completions"

    def body(self, record: Record) -> dict[str, Any]:
        """Return the request for a record.

        Raises:
            ValueError: A field is missing or holds the wrong kind of value.
        """
        own = self._own_parameters(record)
        body = {**self.fixed, **own}
        if "max_completion_tokens" in own and "max_tokens" not in own:
            body.pop("max_tokens", None)  # Two names of one limit: the record's is meant.
        if self.model is not None:
            body["model"] = self.model
        elif not isinstance(body.get("model"), str):
            raise _fault(
                f"model=None leaves the model to field {self.parameters!r}, "
                "which names none; add it there, or give model=..."
            )
        if self.response_format is not None:
            body["response_format"] = dict(self.response_format)
        asked = self._asked(record)
        body["messages" if self.api == "chat" else "prompt"] = asked
        if self.seed is not None and "seed" not in own:
            body["seed"] = content_seed(asked) if isinstance(self.seed, str) else self.seed
        if self.priority is not None and (priority := self._priority(record)):
            # vLLM serves the lowest number first, and sage_dask the highest.
            body["priority"] = -priority
        return body

    def _asked(self, record: Record) -> Any:
        if self.prompt not in record:
            raise _fault(
                f"the record has no field {self.prompt!r} (it has {', '.join(sorted(record))}); "
                "name the field that holds the prompt with prompt=..."
            )
        value = record[self.prompt]
        if isinstance(value, str) and value.strip():
            return self._as_messages([{"role": "user", "content": value}], value)
        if self.api == "chat" and _is_chat(value):
            return self._as_messages(list(value), value)
        wanted = "a text or a list of chat messages" if self.api == "chat" else "a text"
        found = "an empty text" if isinstance(value, str) else _kind(value)
        raise _fault(
            f"field {self.prompt!r} must hold {wanted}, found {found}; "
            "filter such records out before this stage"
        )

    def _as_messages(self, messages: list[Any], text: Any) -> Any:
        if self.api != "chat":
            return text
        if self.system is None or messages[0]["role"] in ("system", "developer"):
            return messages
        return [{"role": "system", "content": self.system}, *messages]

    def _own_parameters(self, record: Record) -> dict[str, Any]:
        if self.parameters is None:
            return {}
        own = record.get(self.parameters)
        if not isinstance(own, Mapping) or not all(isinstance(name, str) for name in own):
            raise _fault(
                f"field {self.parameters!r} must hold a mapping of request parameters, found "
                f"{_kind(own)}; ReadOpenAIBatch writes one for each record"
            )
        return {name: value for name, value in own.items() if name not in _TRANSPORT}

    def _priority(self, record: Record) -> int:
        value = record.get(self.priority) if isinstance(self.priority, str) else self.priority
        if type(value) is not int:
            raise _fault(
                f"field {self.priority!r} must hold a whole number, the priority of the record, "
                f"found {_kind(value)}; give each record one, or leave priority= out"
            )
        return value


def content_seed(asked: Any) -> int:
    """Return a seed of 31 bits that equal questions share, on every machine and at any time."""
    digest = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def prefix_of(body: Mapping[str, Any]) -> str:
    """Return a name for how a request begins; those with one name are best sent to one replica."""
    return hashlib.sha256(_text(body)[:_PREFIX_CHARS].encode("utf-8", "replace")).hexdigest()[:16]


def prompt_tokens(body: Mapping[str, Any]) -> int:
    """Return about how many tokens the prompt of a request has."""
    return estimated_tokens(_text(body))


def estimated_tokens(text: str) -> int:
    """Return about how many tokens a text has: one for each four characters."""
    return -(-len(text) // _CHARS_PER_TOKEN)


def most_new_tokens(body: Mapping[str, Any]) -> int | None:
    """Return how many tokens the answer may have, all choices together; None if no limit is set."""
    limit = body.get("max_completion_tokens", body.get("max_tokens"))
    return limit * num_choices(body) if isinstance(limit, int) else None


def num_choices(body: Mapping[str, Any]) -> int:
    """Return how many answers a request asks for."""
    number = body.get("n")
    return number if isinstance(number, int) else 1


def _text(body: Mapping[str, Any]) -> str:
    """Return all that a prompt says, one message after another."""
    if "messages" not in body:
        return str(body["prompt"])
    return "\n".join(f"{message['role']}: {_said(message)}" for message in body["messages"])


def _said(message: Mapping[str, Any]) -> str:
    """Return the text of a message; parts of other kinds, such as images, say nothing."""
    content = message.get("content")
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, Sequence) else ()
    return " ".join(str(part.get("text", "")) for part in parts if isinstance(part, Mapping))


def _is_chat(value: Any) -> bool:
    return (
        isinstance(value, Sequence)
        and not isinstance(value, str | bytes)
        and len(value) > 0
        and all(isinstance(each, Mapping) and isinstance(each.get("role"), str) for each in value)
    )


def _kind(value: Any) -> str:
    """Return what a field holds, in words that fit an error."""
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return "a list that is no chat" if value else "an empty list"
    return "nothing" if value is None else type(value).__name__


def _fault(message: str) -> ValueError:
    return ValueError(f"Generate: {message}")
