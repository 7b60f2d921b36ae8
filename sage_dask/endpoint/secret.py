"""API keys: named where pipelines are declared, held where requests are sent.

A ``KeySource`` travels and holds a name; a ``Secret`` holds the key and does
not travel.  Nothing shows it but ``reveal``, and ``redact`` takes it out of what
a server says, in any of the spellings in which servers repeat their requests.
"""

from __future__ import annotations

import base64
import html
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn
from urllib.parse import quote

from sage_dask.errors import PlanError, SetupError

_SHOWN = "[key]"
# Longer than any key; a path that leads to a device or a model file must not be read whole.
_MOST_KEY_CHARS = 16_384
# Long, with small letters and digits: no one names a variable so, and keys are made so.
_LOOKS_LIKE_A_KEY = re.compile(r"(?=.*[a-z])(?=.*\d)\S{20,}\Z")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_NEVER = r"(?!)"
# Shorter ones, such as "x", are given to servers that want none, and are in every second word.
_SHORTEST_SECRET = 6
# Shorter keys are words, such as "no-key-needed"; an answer may well hold them by itself.
_SHORTEST_UNIQUE = 16


@dataclass(frozen=True, slots=True)
class KeySource:
    """Where a worker finds the key: the name of a variable, or the path of a file."""

    env: str | None = None
    file: str | None = None

    def __post_init__(self) -> None:
        if (self.env is None) == (self.file is None):
            raise PlanError(
                "a key comes from one place: give either api_key_env=... (name of an "
                "environment variable) or api_key_file=... (path of a file)"
            )
        if self.env is not None and (
            not _VARIABLE.match(self.env) or _LOOKS_LIKE_A_KEY.match(self.env)
        ):
            # The value stays out of the message: it may well be the key.
            raise PlanError(
                f"api_key_env=... holds {len(self.env)} characters that are no variable's name; "
                "give the name of the variable that holds the key, not the key itself"
            )

    def resolve(self) -> Secret:
        """Read the key, in this process.

        Raises:
            SetupError: There is no such variable or file, or nothing in it that a header takes.
        """
        return Secret(_usable(self._read(), self._told()))

    def _told(self) -> str:
        return f"api_key_{'env' if self.env else 'file'}={self.env or self.file!r}"

    def _read(self) -> str:
        if self.env is not None:
            return os.environ.get(self.env, "")
        try:
            with Path(self.file or "").expanduser().open(encoding="utf-8", errors="replace") as key:
                return key.read(_MOST_KEY_CHARS)
        except OSError as error:
            reason = error.strerror
        raise SetupError(
            f"{self._told()}: can not be read on this worker ({reason}); put the file where "
            "workers run, readable by their user alone"
        )


def _usable(text: str, source: str) -> str:
    """Return a key without outer space.

    Raises:
        SetupError: There is none, or it has characters that no header may hold.
    """
    key = text.strip()
    if not key:
        raise SetupError(
            f"{source}: no key there on this worker; export the variable or write the file "
            "where workers start (the key is read there and travels nowhere)"
        )
    if not all("!" <= character <= "~" for character in key):
        raise SetupError(
            f"{source}: what is there ({len(key)} characters) has spaces, line breaks or signs "
            "beyond ASCII in it, which no key has; keep the key alone there"
        )
    return key


class Secret:
    """A key in memory: it shows in no repr, text or pickle."""

    __slots__ = ("_key", "_pattern", "_spellings")

    def __init__(self, key: str) -> None:
        self._key = key
        is_shown = len(key) < _SHORTEST_SECRET
        self._pattern = re.compile(_NEVER if is_shown else "".join(map(_sign, key)))
        # Longest first, or a spelling inside another one would leave the rest behind.
        spellings = () if is_shown else {*_quoted(key), *_in_base64(key)}
        self._spellings = sorted(spellings, key=len, reverse=True)

    def reveal(self) -> str:
        """Return the key, for the header of a request and nothing else."""
        return self._key

    def redact(self, text: str) -> str:
        """Return a text with every spelling of the key replaced; for messages, not for data."""
        text = self._pattern.sub(_SHOWN, text)
        for spelling in self._spellings:
            text = text.replace(spelling, _SHOWN)
        return text

    def redact_answer(self, content: bytes) -> bytes:
        """Return an answer without the usual spellings of the key, should a server put it there.

        Every answer goes through this, so it is quick: it looks for a few texts only.
        A key as short as a word is left: replacing it could damage what was really
        answered.
        """
        if len(self._key) < _SHORTEST_UNIQUE:
            return content
        for spelling in self._spellings:
            content = content.replace(spelling.encode(), _SHOWN.encode())
        return content

    def __repr__(self) -> str:
        return f"<Secret {_SHOWN}>"

    def __str__(self) -> str:
        return _SHOWN

    def __format__(self, spec: str) -> str:
        return _SHOWN

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError(
            "a Secret does not travel; send the KeySource and resolve it on the other side"
        )


def _sign(sign: str) -> str:
    """Return the pattern of one sign of a key: as it is, or quoted for a URL, JSON or HTML."""
    code = f"{ord(sign):x}"
    spellings = [
        rf"\\?{re.escape(sign)}",
        rf"(?i:%{code}|\\u00{code}|\\x{code}|&#x0*{code};|&#0*{ord(sign)};)",
        re.escape(html.escape(sign)),
    ]
    return f"(?:{'|'.join(spellings)})"


def _quoted(key: str) -> Iterator[str]:
    """Yield the ways in which an answer in JSON may hold a key."""
    in_json = json.dumps(key)[1:-1]
    yield from (key, in_json, in_json.replace("/", "\\/"), quote(key), quote(key, safe=""))


def _in_base64(key: str) -> Iterator[str]:
    """Yield what a key looks like inside any text that was written in base64.

    Three bytes become four signs, so that the spelling depends on where the
    key begins; signs that also hold bits of its neighbours are left out.
    """
    data = key.encode()
    for offset in range(3):
        signs = base64.b64encode(bytes(offset) + data).decode().rstrip("=")
        first = (0, 2, 3)[offset]
        last = len(signs) if (offset + len(data)) % 3 == 0 else len(signs) - 1
        inner = signs[first:last]
        yield inner
        yield inner.replace("+", "-").replace("/", "_")
