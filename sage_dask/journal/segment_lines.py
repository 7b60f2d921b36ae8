"""Lines of a segment: a list in JSON whose last member is a checksum of the rest.

A group is lines and a closing line.  The closing line holds a checksum over all that was
ever committed up to it, so that groups that are missing or out of order are noticed.
"""

from __future__ import annotations

import json
import zlib
from typing import Any, NamedTuple

# Raised when lines change so that an older sage_dask would read them wrongly.
VERSION = 1

HEADER, CLOSING = "segment", "commit"

# ,"89abcdef"] and the line end
_SEAL_BYTES = 13

_to_json = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode
# Without a look for blanks around, which our lines do not have.
_from_json = json.JSONDecoder().raw_decode


class Stand(NamedTuple):
    """How far a journal goes."""

    num_groups: int = 0
    chain: int = 0
    """Checksum over the checksums of all lines before, headers among them."""

    def after(self, line: bytes) -> Stand:
        """Return this stand with one more line."""
        return Stand(self.num_groups, zlib.crc32(line[-_SEAL_BYTES:], self.chain))


def seal(fields: list[Any]) -> bytes:
    """Return the line that holds some fields."""
    text = _to_json(fields)[:-1].encode("ascii")
    return b'%b,"%08x"]\n' % (text, zlib.crc32(text))


def unseal(line: bytes) -> list[Any] | None:
    """Return the fields of a line, or None if it is not what was written."""
    text = line[:-_SEAL_BYTES]
    if line[-_SEAL_BYTES:] != b',"%08x"]\n' % zlib.crc32(text):
        return None
    try:
        fields, _ = _from_json(f"{text.decode('ascii')}]")
    except ValueError:
        return None
    return fields if isinstance(fields, list) and fields else None


def header(number: int, stand: Stand) -> bytes:
    """Return the first line of a segment: which one it is, and where those before it end."""
    return seal([HEADER, VERSION, number, *stand])


def closing(stand: Stand, num_lines: int) -> bytes:
    """Return the line that ends a group of ``num_lines`` lines; ``stand`` is that before it."""
    return seal([CLOSING, stand.num_groups + 1, num_lines, stand.chain])
