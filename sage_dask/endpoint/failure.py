"""What a try that brought no answer means: for the record, the run and the next try.

The one place that knows status codes.  Whoever failed says so as a value; no
exception carries a server's words, so none can hide them in its context.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeAlias

# Enough of a server's complaint to act on, too little to flood a log.
MOST_SAID_CHARS = 300


@dataclass(frozen=True, slots=True)
class Fatal:
    """No other record would escape this."""

    said: str
    mend: str


@dataclass(frozen=True, slots=True)
class Refused:
    """The server will not answer this request, however often it is asked."""

    said: str


@dataclass(frozen=True, slots=True)
class Busy:
    """The server is well and wants to be asked later; nothing is wrong with the record."""

    said: str
    retry_after_s: float | None = None


@dataclass(frozen=True, slots=True)
class Unreachable:
    """There was no connection, so the request can not be the cause."""

    said: str


@dataclass(frozen=True, slots=True)
class Broken:
    """The request was sent and no usable answer came back; the request may be the cause."""

    said: str


Failure: TypeAlias = Fatal | Refused | Busy | Unreachable | Broken

WRONG_ADDRESS = (
    "there is no such model or path: endpoint=... usually ends in '/v1', and "
    "GET <endpoint>/models lists what model=... may be"
)
_MENDS = {
    401: "the key was refused: give the name of the variable that holds it as api_key_env=...",
    402: "the account has no credit left: top it up, then run again",
    403: "the key may not use this model: ask for access, or choose another model=...",
    404: WRONG_ADDRESS,
    405: WRONG_ADDRESS,
    407: "a proxy stands in between: give an endpoint that workers reach without one",
}
_REDIRECT = "give the address where it leads as endpoint=... (the key is not carried along)"
# 529 is what some clouds say for "overloaded".
_BUSY = frozenset({429, 503, 529})
# The client errors that pass: a slow request, a conflict, a replayed handshake.
_PASSING = frozenset({408, 409, 425})
# Servers agree that a prompt may be too long, but not on a status for it.
_TOO_LONG = re.compile(
    r"context[ _]length|context[ _]size|context[ _]window|maximum context|prompt is too long",
    re.IGNORECASE,
)
# 429 as well, but not for a minute: the account is empty.
_NO_QUOTA = re.compile(r"insufficient_quota|exceeded your current quota", re.IGNORECASE)


def classify(
    status: int, said: str, *, retry_after_s: float | None = None, answered_before: bool = False
) -> Failure:
    """Return what an answer with an error status means.

    Args:
        status: The HTTP status, not 2xx.
        said: What the server said, see ``words``.
        retry_after_s: What it asked for, if it did.
        answered_before: Whether this endpoint has answered a request well.  A
            wrong address has not; so from one that has, a redirect or a 404 that
            does not speak of the model is a proxy whose server is away.
    """
    told = f"{status} {said}".strip()
    if _NO_QUOTA.search(said):
        return Fatal(told, _MENDS[402])
    if status in _BUSY:
        return Busy(told, retry_after_s)
    if 300 <= status < 400:
        return Broken(told) if answered_before else Fatal(told, _REDIRECT)
    if status in (404, 405) and answered_before and "model" not in said.lower():
        return Broken(told)
    if status in _MENDS:
        return Fatal(told, _MENDS[status])
    if _TOO_LONG.search(said) or (400 <= status < 500 and status not in _PASSING):
        return Refused(told)
    return Broken(told)


def words(content: str, redact: Callable[[str], str] = str) -> str:
    """Return what a server says in the body of an error, on one line, up to 300 characters.

    Knows ``{"error": {"message": ...}}``, ``{"error": ...}``, ``{"message": ...}`` and
    ``{"detail": ...}``; any other text is taken as it is.  ``redact`` sees it before it
    is cut, so that no half of a key is left.
    """
    with suppress(ValueError, RecursionError):
        parsed = json.loads(content)
        if isinstance(parsed, Mapping):
            content = _message(parsed) or content
    return " ".join(redact(content).split())[:MOST_SAID_CHARS]


def error_in(body: Any, redact: Callable[[str], str] = str) -> Failure | None:
    """Return the error that a body with status 200 holds; None if it holds none.

    Proxies answer so, and every server does once a stream has begun.
    """
    if not isinstance(body, Mapping):
        return None
    error = body if body.get("object") == "error" else body.get("error")
    if not error:
        return None
    code = error.get("code") if isinstance(error, Mapping) else None
    status = code if isinstance(code, int) and 400 <= code < 600 else 500
    return classify(status, words(json.dumps(body), redact), answered_before=True)


def _message(parsed: Mapping[str, Any]) -> str | None:
    """Return the text of an error object, with its code where that says more."""
    error = parsed.get("error") or parsed
    if isinstance(error, str):
        return error
    if not isinstance(error, Mapping):
        return None
    message = error.get("message") or error.get("detail")
    if not isinstance(message, str):
        return None
    code = error.get("code")
    return f"{message} ({code})" if isinstance(code, str) and code not in message else message
