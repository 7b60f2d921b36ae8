"""What the lines of a group say: entries, memos, events, facts and changes of places.

Bodies are base64 and digests hexadecimal.  Text is kept by its bytes in UTF-8, so that text
which is no UTF-8, such as half a pair of surrogates, comes back as it was.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from sage_dask.journal.entries import Entry, Group, Mark, Memo

ENTRY, MEMO, EVENT, FACT = "entry", "memo", "event", "fact"
FORGET, RENUMBER = "forget", "renumber"


def group_rows(group: Group) -> Iterator[list[Any]]:
    """Yield the fields of a group's lines; entries first, for a memo counts only without one."""
    for entry in group.entries:
        yield [ENTRY, *_entry_fields(entry)]
    for memo in group.memos:
        yield [MEMO, *_entry_fields(memo.entry), _text(memo.stage)]
    for event in group.events:
        yield [EVENT, event.decode("utf-8", "surrogateescape")]
    for name, fact in group.facts.items():
        yield [FACT, _text(name), _text(fact)]


def forget_row(places: Iterable[int]) -> list[Any]:
    """Return the fields of a line that empties places."""
    return [FORGET, list(places)]


def renumber_row(places: Mapping[int, int]) -> list[Any]:
    """Return the fields of a line that moves what old places hold to new ones."""
    return [RENUMBER, list(places.items())]


def _entry_fields(entry: Entry) -> list[Any]:
    return [
        entry.seq,
        None if entry.id is None else _text(entry.id),
        entry.digest.hex(),
        int(entry.is_failed),
        base64.b64encode(entry.body).decode("ascii"),
    ]


def mark_of(fields: list[Any]) -> Mark:
    """Return the mark of an entry's line, or of a memo's."""
    _, seq, text, digest, is_failed, *_ = fields
    return Mark(seq, None if text is None else _told(text), bytes.fromhex(digest), bool(is_failed))


def entry_of(fields: list[Any], seq: int) -> Entry:
    """Return the entry of a line for the place that it has by now."""
    mark = mark_of(fields)
    return Entry(seq, mark.id, mark.digest, mark.is_failed, base64.b64decode(fields[5]))


def memo_of(fields: list[Any], seq: int) -> Memo:
    """Return the memo of a line for the place that it has by now."""
    return Memo(_told(fields[6]), entry_of(fields, seq))


def event_of(fields: list[Any]) -> bytes:
    """Return the event of a line."""
    return str(fields[1]).encode("utf-8", "surrogateescape")


def fact_of(fields: list[Any]) -> tuple[str, str]:
    """Return the name and the fact of a line."""
    return _told(fields[1]), _told(fields[2])


def _text(told: str) -> str:
    # JSON would join two halves of a pair that stand side by side.
    return told.encode("utf-8", "surrogatepass").decode("utf-8", "surrogateescape")


def _told(text: str) -> str:
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "surrogatepass")
