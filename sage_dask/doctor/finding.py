"""What an examination says of one thing.

A finding that is not well always says what to do, so that nobody is left with a
verdict alone; ``note``, ``warn`` and ``fail`` therefore ask for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from sage_dask.errors import counted

# As many names as a line holds; on a large cluster the rest would push everything else away.
_MOST_NAMES = 5


class Mark(StrEnum):
    """How well a thing is."""

    OK = "ok"
    NOTE = "note"
    """Good to know; nothing suffers for it."""
    WARN = "warn"
    """A run would work, and worse than it could, or in danger."""
    FAIL = "fail"
    """A run would not work."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing, what it is, and what to do about it."""

    mark: Mark
    what: str
    """The thing, such as ``"open files"``."""
    value: str
    """What was found, with its numbers."""
    advice: str = ""
    """What to do; empty only where all is well."""


def ok(what: str, value: str) -> Finding:
    """Return that a thing is well."""
    return Finding(Mark.OK, what, value)


def note(what: str, value: str, advice: str) -> Finding:
    """Return what is good to know."""
    return Finding(Mark.NOTE, what, value, advice)


def warn(what: str, value: str, advice: str) -> Finding:
    """Return what makes a run worse than it could be, or puts it in danger."""
    return Finding(Mark.WARN, what, value, advice)


def fail(what: str, value: str, advice: str) -> Finding:
    """Return what keeps a run from working."""
    return Finding(Mark.FAIL, what, value, advice)


def refused(what: str, message: str) -> Finding:
    """Return the message of an error of ours as a finding: it says what is wrong, then the mend."""
    value, _, mend = message.partition("; ")
    return fail(what, value, mend or "mend that, and ask again")


def unchecked(what: str, reason: str) -> Finding:
    """Return that a check could not be made; the others were."""
    return note(what, f"could not be checked: {reason}", "ask again once that is mended")


def named(names: Iterable[str]) -> str:
    """Return names for a line: all of them, or the first few and how many more there are.

    >>> named(["b", "a"]), named("gfedcba")
    ('a, b', 'a, b, c, d, e and 2 more')
    """
    known = sorted(names)
    shown = ", ".join(known[:_MOST_NAMES])
    more = len(known) - _MOST_NAMES
    return f"{shown} and {more} more" if more > 0 else shown


def count_marks(findings: Sequence[Finding]) -> Mapping[Mark, int]:
    """Return how many findings bear each mark; marks that none bears are 0."""
    return {mark: sum(finding.mark is mark for finding in findings) for mark in Mark}


def summary(findings: Sequence[Finding]) -> str:
    """Return the counts in words.

    >>> summary([ok("cores", "2"), note("extras", "no rag", "install it")])
    '2 findings: 1 ok, 1 note, 0 warn, 0 fail'
    """
    counts = ", ".join(f"{number} {mark}" for mark, number in count_marks(findings).items())
    return f"{counted(len(findings), 'finding')}: {counts}"
