"""What a journal keeps, in the form in which it is kept.

A store knows bytes and places, nothing of records; what the bytes say is
``rows``' business.  A group is what one commit makes last: all of it or nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

# Bytes of the digest of a record as it was read.
DIGEST_BYTES = 8

# The fact that counts how often a run was started.
EPOCH = "epoch"

# The fact that names the form in which the store keeps things; the store writes it itself.
FORMAT = "format"


class Entry(NamedTuple):
    """What became of one record that was read."""

    seq: int
    """Its place in the order of reading, from 0."""
    id: str | None
    """None for a row of the input that never became a record, such as an unreadable line."""
    digest: bytes
    """Of the record as it was read; empty where there was none."""
    is_failed: bool
    body: bytes
    """What came of it, packed."""


class Memo(NamedTuple):
    """What a costly stage made of one record whose later stages are not done."""

    stage: str
    """Name of the last stage that is done with it; those after it are not."""
    entry: Entry


class Mark(NamedTuple):
    """An entry without its body: enough to know the record again."""

    seq: int
    id: str | None
    digest: bytes
    is_failed: bool


@dataclass(frozen=True, slots=True)
class Group:
    """What one commit makes last together.

    Entries count before memos, whatever their order was, so that groups can be joined.
    """

    entries: Sequence[Entry] = ()
    """The first one of a place, and of an id, stays; later ones change nothing."""
    memos: Sequence[Memo] = ()
    """The last one of a place stays, until its entry comes; one that comes after it is dropped."""
    events: Sequence[bytes] = ()
    """Lines of JSON, without line ends."""
    facts: Mapping[str, str] = field(default_factory=dict)
    """What is known of the run as a whole, by name; the last one of a name stays."""

    @classmethod
    def joined(cls, groups: Sequence[Group]) -> Group:
        """Return one group that does what committing several in their order does."""
        return cls(
            [entry for group in groups for entry in group.entries],
            [memo for group in groups for memo in group.memos],
            [event for group in groups for event in group.events],
            {name: fact for group in groups for name, fact in group.facts.items()},
        )
