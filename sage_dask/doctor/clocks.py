"""How far other machines' clocks are from this one's.

Durations are never differences of two hosts' clocks, so a wrong clock breaks no
run; it misleads those who lay logs side by side.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from sage_dask.doctor.finding import Finding, named, note, ok, warn

# Enough to put lines of two logs into the wrong order by eye.
_MOST_S = 1.0


@dataclass(frozen=True, slots=True)
class Sample:
    """Another clock, asked once; wall-clock seconds."""

    asked_s: float
    there_s: float
    answered_s: float


@dataclass(frozen=True, slots=True)
class Offset:
    """How far ahead another clock is; in seconds."""

    offset_s: float
    uncertainty_s: float
    """The true offset is at most this far away, whichever way took how much of the round trip."""


def offset_of(samples: Sequence[Sample]) -> Offset:
    """Return the offset that the quickest of some samples tells, since it tells most.

    >>> offset_of([Sample(10.0, 15.5, 11.0), Sample(20.0, 25.1, 20.2)])
    Offset(offset_s=5.0, uncertainty_s=0.1)
    """
    best = min(samples, key=lambda sample: sample.answered_s - sample.asked_s)
    half_s = (best.answered_s - best.asked_s) / 2
    return Offset(round(best.there_s - best.asked_s - half_s, 6), round(half_s, 6))


def clock_findings(offsets: Mapping[str, Offset]) -> Iterator[Finding]:
    """Yield the clocks that are off by more than a second, and how near the others are.

    Args:
        offsets: By machine.
    """
    wrong = {
        name: each
        for name, each in offsets.items()
        if abs(each.offset_s) - each.uncertainty_s > _MOST_S
    }
    for name, each in sorted(wrong.items()):
        yield warn(
            "clocks",
            f"{name} is {_shown(each)} from here",
            "logs of the two can not be laid side by side: start chrony or systemd-timesyncd on "
            "the one that is wrong (measured times are not affected)",
        )
    vague = [name for name, each in offsets.items() if each.uncertainty_s > _MOST_S]
    if vague:
        yield note(
            "clocks",
            f"{named(vague)}: answered too slowly to tell",
            "ask again when the cluster is less busy",
        )
    near = {name: offsets[name] for name in offsets if name not in wrong and name not in vague}
    if near:
        worst = max(near.values(), key=lambda each: abs(each.offset_s))
        yield ok("clocks", f"{named(near)}: at most {_shown(worst)} from here")


def _shown(offset: Offset) -> str:
    return f"{offset.offset_s:+.3f} s (± {offset.uncertainty_s:.3f})"
