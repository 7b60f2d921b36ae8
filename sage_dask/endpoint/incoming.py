"""An answer as its bytes come in: kept as they are, or put together from a stream."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from sage_dask.endpoint.failure import Broken, Failure, Refused
from sage_dask.endpoint.stream import Assembly

# Far above any answer with all its log probabilities; a server gone mad must not fill the memory.
_MOST_BYTES = 256 * 2**20


class UnreadableError(Exception):
    """What came is not worth reading on."""

    def __init__(self, failure: Failure) -> None:
        super().__init__()
        self.failure = failure


class Incoming:
    """An answer as it comes in."""

    def __init__(self, num_choices: int) -> None:
        self.status = 0
        self.headers: Mapping[str, str] = {}
        self.assembly: Assembly | None = None
        self._num_choices = num_choices
        self._chunks: list[bytes] = []
        self._num_bytes = 0

    @property
    def content(self) -> bytes:
        """All bytes of an answer that was not streamed."""
        return b"".join(self._chunks)

    @property
    def is_done(self) -> bool:
        """Whether a stream said that it is over."""
        return self.assembly is not None and self.assembly.is_done

    @property
    def is_settled(self) -> bool:
        """Whether a stream can be judged, even if the connection breaks now."""
        return self.assembly is not None and (self.assembly.is_done or self.assembly.is_whole)

    def begin(self, status: int, headers: Mapping[str, str]) -> None:
        """Take in what comes before the body; servers may answer whole though asked to stream."""
        self.status = status
        self.headers = headers
        kind = headers.get("Content-Type", "")
        if 200 <= status < 300 and kind.startswith("text/event-stream"):
            self.assembly = Assembly(self._num_choices)

    def feed(self, chunk: bytes) -> None:
        """Take in some bytes of the body.

        Raises:
            UnreadableError: There are too many, or they are no events.
        """
        self._num_bytes += len(chunk)
        if self._num_bytes > _MOST_BYTES:
            raise UnreadableError(Refused(f"the answer has more than {_MOST_BYTES:,} bytes"))
        if self.assembly is None:
            self._chunks.append(chunk)
            return
        try:
            self.assembly.feed(chunk)
        except Exception as error:  # Whatever shape an event may have, it is the server's doing.
            kind = type(error).__name__
        else:
            return
        raise UnreadableError(Broken(f"the stream holds what is no event of an answer ({kind})"))

    def streamed(self) -> Any:
        """Return the body of a stream, or the error that ended it."""
        if self.assembly is None:
            return None
        return self.assembly.error or self.assembly.body()


class Unparsable:
    """Stands for a body that is no JSON; the parser's error would quote all of it."""


def parsed(content: bytes) -> Any:
    """Return the value of a JSON text, or an ``Unparsable``."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return Unparsable()
