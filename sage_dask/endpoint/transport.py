"""One request to a model server and its whole answer, within deadlines.

What comes back is a body or a ``Failure``, both values.  Exceptions of the HTTP
library end here: their texts are taken, without the key, and they are let go.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sage_dask.endpoint import connections
from sage_dask.endpoint.deadlines import Deadlines, Part
from sage_dask.endpoint.failure import (
    MOST_SAID_CHARS,
    WRONG_ADDRESS,
    Broken,
    Failure,
    Fatal,
    Unreachable,
    classify,
    error_in,
    words,
)
from sage_dask.endpoint.incoming import Incoming, Unparsable, UnreadableError, parsed
from sage_dask.endpoint.request import Request
from sage_dask.endpoint.retry import parse_retry_after
from sage_dask.endpoint.secret import Secret
from sage_dask.extras import require

# Errors are short; some proxies send a whole page, with pictures.
_MOST_ERROR_BYTES = 2**16
# A streamed answer is complete at "[DONE]"; its connection can be used again if it ends by then.
_DRAIN_S = 1.0


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole answer."""

    body: Any


class Transport:
    """Sends requests with one key, under one set of deadlines, from one event loop."""

    def __init__(self, key: Secret | None = None, deadlines: Deadlines | None = None) -> None:
        self._aiohttp = require("aiohttp", extra="http", needed_by="a model server's endpoint")
        self._key = key
        self._deadlines = deadlines or Deadlines()
        self._timeout = self._aiohttp.ClientTimeout(total=None, connect=self._deadlines.connect_s)
        self._session: Any = None

    async def post(
        self,
        endpoint: str,
        request: Request,
        *,
        request_id: str,
        attempt: int = 1,
        answered_before: bool = False,
    ) -> Reply | Failure:
        """Send a request once.

        Args:
            endpoint: Base URL of the server.
            request: What to send.
            request_id: Goes along as ``x-request-id``, for the server's log.
            attempt: Number of the try, from 1; goes along as ``x-request-attempt``.
            answered_before: See ``classify``.
        """
        headers = {"x-request-id": request_id, "x-request-attempt": str(attempt)}
        watch = _Watch(self._deadlines)
        answer = Incoming(request.num_choices)
        failure: Failure | None = None
        try:
            async with watch.timer:
                watch.expect("first_byte")
                await self._exchange(endpoint, request, headers, answer, watch)
        except TimeoutError as error:
            failure = self._late(error, watch)
        except (self._aiohttp.ClientError, OSError) as error:
            failure = self._lost(error)
        except UnreadableError as error:
            failure = error.failure
        # Nothing is missing from a stream that broke after its last word.
        if failure is not None and not answer.is_settled:
            return failure
        return self._judged(answer, answered_before)

    async def close(self) -> None:
        """Give the connections back; further requests open new ones."""
        if self._session is not None:
            self._session = None
            await connections.give_back()

    async def _exchange(
        self,
        endpoint: str,
        request: Request,
        headers: dict[str, str],
        answer: Incoming,
        watch: _Watch,
    ) -> None:
        """Send the request and take in its answer up to the last byte."""
        if self._session is None:
            self._session = connections.lease()
        if self._key is not None:
            headers["Authorization"] = f"Bearer {self._key.reveal()}"
        async with self._session.post(
            f"{endpoint}/{request.path}",
            data=request.data,
            headers=headers,
            timeout=self._timeout,
            # A redirect would carry the key to a place the user did not name.
            allow_redirects=False,
        ) as response:
            answer.begin(response.status, response.headers)
            async for chunk in response.content.iter_any():
                watch.expect("idle", at_most_s=_DRAIN_S if answer.is_done else None)
                answer.feed(chunk)

    def _judged(self, answer: Incoming, answered_before: bool) -> Reply | Failure:
        """Return what a complete answer means."""
        if not 200 <= answer.status < 300:
            return self._refusal(answer, answered_before)
        if answer.assembly is not None:
            body: Any = answer.streamed()
            if not answer.is_settled:
                return Broken("the stream ended before the answer did")
        else:
            content = self._key.redact_answer(answer.content) if self._key else answer.content
            body = parsed(content)
            if isinstance(body, Unparsable):
                return self._no_answer(answer, content, answered_before)
        error = error_in(body, self._redact)
        if error is not None:
            return error
        return Reply(self._clean(body) if answer.assembly is not None else body)

    def _no_answer(self, answer: Incoming, content: bytes, answered_before: bool) -> Failure:
        """Return what status 200 means with a body that is no JSON."""
        text = content[:_MOST_ERROR_BYTES].decode("utf-8", "replace")
        said = f"the answer is no JSON: {self._redact(text)[:MOST_SAID_CHARS]!r}"
        if answer.headers.get("Content-Type", "").startswith("text/html") and not answered_before:
            return Fatal(said, WRONG_ADDRESS)  # A page for people, such as one to log in.
        return Broken(said)

    def _refusal(self, answer: Incoming, answered_before: bool) -> Failure:
        content = answer.content[:_MOST_ERROR_BYTES].decode("utf-8", "replace")
        said = words(self._redact(content), self._redact)
        if "Location" in answer.headers:
            said = f"redirects to {self._redact(answer.headers['Location'])} {said}".strip()
        return classify(
            answer.status,
            said,
            retry_after_s=parse_retry_after(answer.headers.get("Retry-After"), datetime.now(UTC)),
            answered_before=answered_before,
        )

    def _late(self, error: TimeoutError, watch: _Watch) -> Failure:
        """Return the failure for a deadline; aiohttp keeps the one of connecting."""
        if isinstance(error, self._aiohttp.ServerTimeoutError):
            return Unreachable(self._deadlines.told("connect"))
        if watch.timer.expired():
            return Broken(self._deadlines.told(watch.part))
        return self._lost(error)  # The operating system's own limit.

    def _lost(self, error: OSError | Exception) -> Failure:
        """Return the failure for a connection that did not come about or did not last."""
        reason = self._redact(_reason(error))[:MOST_SAID_CHARS]
        if isinstance(error, self._aiohttp.ClientConnectorCertificateError):
            return Fatal(
                f"its certificate is not trusted: {reason}",
                "have SSL_CERT_FILE on the workers name a bundle with the authority that signed it",
            )
        if "WRONG_VERSION_NUMBER" in reason:
            return Fatal("its port does not speak TLS", "begin endpoint=... with 'http://'")
        if isinstance(error, self._aiohttp.ClientConnectorError):
            return Unreachable(reason)
        if isinstance(error, self._aiohttp.ClientPayloadError):
            return Broken(f"the answer was cut: {reason}")
        return Broken(reason)

    def _clean(self, body: Any) -> Any:
        """Return a streamed body without the key, which may have come in pieces."""
        if self._key is None:
            return body
        text = json.dumps(body).encode()
        clean = self._key.redact_answer(text)
        return body if clean == text else json.loads(clean)

    def _redact(self, text: str) -> str:
        return self._key.redact(text) if self._key is not None else text


class _Watch:
    """One timer for whichever deadline comes next."""

    def __init__(self, deadlines: Deadlines) -> None:
        self.part: Part = "total"
        self.timer = asyncio.timeout(None)
        self._deadlines = deadlines
        self._now_s = asyncio.get_running_loop().time
        self._total_at_s = self._now_s() + deadlines.total_s

    def expect(self, part: Part, at_most_s: float | None = None) -> None:
        """Start the time of a part, which ends the one before; the total goes on."""
        limit_s = self._deadlines.limit_s(part)
        at_s = self._now_s() + (limit_s if at_most_s is None else min(limit_s, at_most_s))
        self.part = part if at_s < self._total_at_s else "total"
        self.timer.reschedule(min(at_s, self._total_at_s))


def _reason(error: BaseException) -> str:
    """Return what went wrong in the system's words, or else in those of the library."""
    # A connection that did not come about: the library's own words around it say less.
    error = getattr(error, "os_error", error)
    number = getattr(error, "errno", None)
    # TLS and name look-up count their errors in ways of their own.
    if isinstance(number, int) and number > 0 and not isinstance(error, ssl.SSLError):
        return os.strerror(number).lower()
    if isinstance(error, socket.gaierror) and error.strerror:
        return f"no such host: {error.strerror.lower()}"
    return " ".join(str(error).split()) or type(error).__name__
