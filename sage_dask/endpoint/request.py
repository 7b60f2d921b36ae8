"""A request as it is sent, made once for all its tries."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sage_dask.completion import CompletionError

# What a header may hold and every server's log shows as it is.
_NOT_IN_ID = re.compile(r"[^A-Za-z0-9._-]+")
_MOST_ID_CHARS = 64


@dataclass(frozen=True, slots=True)
class Request:
    """What is sent, as often as it takes."""

    path: str
    """Below the endpoint."""
    data: bytes
    """The body as JSON."""
    id: str
    """Names the request in servers' logs; tries add their number."""
    num_choices: int = 1
    """Answers wanted; a stream is whole when all of them have ended."""

    @classmethod
    def of(
        cls, path: str, body: Mapping[str, Any], *, stream: bool = False, name: str | None = None
    ) -> Request:
        """Return the request for a body; its id is random unless it has a name.

        Raises:
            CompletionError: The body holds what JSON can not say.
        """
        if stream:
            # Without this, a stream does not say how many tokens it took.
            body = {"stream_options": {"include_usage": True}, **body, "stream": True}
        n = body.get("n")
        num_choices = n if isinstance(n, int) and n > 0 else 1
        return cls(path, _encoded(path, body), _id(name), num_choices)


def _encoded(path: str, body: Mapping[str, Any]) -> bytes:
    try:
        return json.dumps(dict(body), separators=(",", ":"), allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        reason = str(error)
    raise CompletionError(
        f"the request to {path!r} can not be written as JSON ({reason}); "
        "give plain numbers, texts, lists and mappings",
        attempts=0,
    )


def _id(name: str | None) -> str:
    return uuid.uuid4().hex if name is None else _NOT_IN_ID.sub("-", name)[:_MOST_ID_CHARS]
