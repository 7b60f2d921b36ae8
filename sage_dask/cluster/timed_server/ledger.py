"""Who asked how often, and who was answered: what "none lost, none sent twice" is checked by."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping

# A marker in the prompt, for requests that can not be given a header.
_MARKER = re.compile(rb"\[\[id:([^\]\"\\]{1,200})\]\]")

# Two counts and a name are about 300 bytes: a server that runs for days must not grow for ever.
_MOST_IDS = 1_000_000


def request_id(header: str | None, body: bytes) -> str:
    """Return by what name a request and its repetitions are known.

    The header ``x-request-id``, else a marker ``[[id:NAME]]`` in the prompt, else a digest of
    the body: a repetition is byte for byte the same.
    """
    if header:
        return header
    if b"[[id:" in body and (marker := _MARKER.search(body)):
        return marker[1].decode()
    return "body-" + hashlib.blake2b(body, digest_size=8).hexdigest()


class Ledger:
    """How often each request was received and answered."""

    def __init__(self) -> None:
        self._counts: dict[str, list[int]] = {}
        self.received = 0
        self.answered = 0
        self.forgotten = 0
        """Ids that made room for later ones."""

    def receive(self, name: str) -> int:
        """Count a request that came in; return how often it did, this time included."""
        self.received += 1
        counts = self._counts.setdefault(name, [0, 0])
        counts[0] += 1
        if len(self._counts) > _MOST_IDS:
            self._counts.pop(next(iter(self._counts)))
            self.forgotten += 1
        return counts[0]

    def answer(self, name: str) -> None:
        """Count a request that was answered in full with status 200."""
        self.answered += 1
        if counts := self._counts.get(name):
            counts[1] += 1

    def entries(self) -> Mapping[str, Mapping[str, int]]:
        """Return the counts by id, oldest first."""
        return {
            name: {"received": received, "answered": answered}
            for name, (received, answered) in self._counts.items()
        }

    def reset(self) -> None:
        """Forget everything."""
        self.__init__()  # type: ignore[misc]  # All state is made there, and there is no subclass.
