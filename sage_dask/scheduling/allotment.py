"""Dividing the request slots of one server among jobs and the workers they run on.

Between jobs by weight, between the workers of a job evenly, and nobody gets more
than is asked for while another wants it.  What nobody wants is lent out evenly,
so that new work starts without a message.  Slots are whole; the last ones go to
whoever had them before, so a small change of demand moves few of them.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sage_dask.errors import PlanError

Pair = tuple[str, str]
"""A worker and a job."""

Slots = dict[Pair, int]

_NO_SLOTS: Mapping[Pair, int] = {}


@dataclass(frozen=True, slots=True)
class Want:
    """The requests of one job on one worker; also of a job that has none just now."""

    worker: str
    job: str
    endpoints: tuple[str, ...]
    """Replicas, any of which would do."""
    outstanding: int
    """Requests that wait or are under way."""


@dataclass(frozen=True, slots=True)
class Share:
    """What a job may have of the servers."""

    weight: float = 1.0
    quota: Mapping[str, float] = field(default_factory=dict)
    """By endpoint, the most requests under way at once."""

    def __post_init__(self) -> None:
        if not 0 < self.weight < math.inf:
            raise PlanError(f"share: a weight of {self.weight}; give a positive number")


_FAIR = Share()


def allot(
    limit: int,
    wants: Sequence[Want],
    shares: Mapping[str, Share],
    *,
    endpoint: str = "",
    before: Mapping[Pair, int] = _NO_SLOTS,
) -> Slots:
    """Divide the slots of one server.

    Args:
        limit: Slots there are.
        wants: Who asks for how many.
        shares: Of the jobs that have no ordinary one, by name.
        endpoint: Whose slots these are; quotas are by endpoint.
        before: The slots of each worker and job until now.

    Returns:
        Slots of each worker and job that is named in ``wants``.  All are given out, unless
        quotas forbid it.
    """
    pairs: dict[Pair, int] = {}
    for want in wants:
        pair = want.worker, want.job
        pairs[pair] = pairs.get(pair, 0) + want.outstanding
    jobs: dict[str, list[Pair]] = {}
    for pair in pairs:
        jobs.setdefault(pair[1], []).append(pair)
    weights = {job: shares.get(job, _FAIR).weight for job in jobs}
    quotas = {job: _quota(shares.get(job, _FAIR), endpoint, limit) for job in jobs}
    held = {job: sum(before.get(pair, 0) for pair in of_job) for job, of_job in jobs.items()}
    wanted = {job: sum(pairs[pair] for pair in of_job) for job, of_job in jobs.items()}
    wanted = {job: min(number, quotas[job]) for job, number in wanted.items()}

    of_jobs = _by_weight(limit, wanted, weights, held)
    left = limit - sum(of_jobs.values())
    lent = _by_weight(left, {job: quotas[job] - of_jobs[job] for job in jobs}, weights, held)
    slots: Slots = {}
    for job, of_job in jobs.items():
        slots |= _among_workers(of_jobs[job], lent[job], {p: pairs[p] for p in of_job}, before)
    return _kept_where_it_does_not_matter(slots, pairs, before)


def _quota(share: Share, endpoint: str, limit: int) -> int:
    """Return the most slots that a job may have."""
    quota = share.quota.get(endpoint, math.inf)
    return limit if quota >= limit else max(int(quota), 0)


def _among_workers(
    wanted: int, lent: int, demand: Mapping[Pair, int], before: Mapping[Pair, int]
) -> Slots:
    """Divide the slots of one job among its workers."""
    slots = _evenly(wanted, demand, before)
    if lent:
        each, last = divmod(lent, len(slots))
        slots = {pair: number + each for pair, number in slots.items()}
        for pair in _by_turn(slots, before)[:last]:
            slots[pair] += 1
    return slots


def _evenly(limit: int, wanted: Mapping[Pair, int], before: Mapping[Pair, int]) -> Slots:
    """Return whole slots, filled up to one level, none beyond what is wanted."""
    left, rest = limit, len(wanted)
    level = 0
    for number in sorted(wanted.values()):
        level = left // rest
        if number > level:
            break
        left -= number
        rest -= 1
    else:
        return dict(wanted)
    slots = {pair: min(number, level) for pair, number in wanted.items()}
    if last := left - level * rest:
        short = {pair: level for pair, number in wanted.items() if number > level}
        for pair in _by_turn(short, before)[:last]:
            slots[pair] += 1
    return slots


def _by_turn(slots: Mapping[Pair, int], before: Mapping[Pair, int]) -> list[Pair]:
    """Return who gets one slot more in which order: first those who had it before."""
    return sorted(slots, key=lambda pair: (before.get(pair, 0) <= slots[pair], pair))


def _kept_where_it_does_not_matter(
    slots: Slots, demand: Mapping[Pair, int], before: Mapping[Pair, int]
) -> Slots:
    """Leave slots that nobody asked for where they were, if that is one more or one less.

    Demand changes many times a second; without this, every change would move all that is lent.
    Jobs keep their sums, and nobody goes below what is asked.
    """
    by_job: dict[str, tuple[list[Pair], list[Pair]]] = {}
    for pair, number in slots.items():
        change = before.get(pair, 0) - number
        fewer, more = by_job.setdefault(pair[1], ([], []))
        if change == -1 and number > demand[pair]:
            fewer.append(pair)
        elif change == 1:
            more.append(pair)
    for fewer, more in by_job.values():
        for gives, takes in zip(fewer, more, strict=False):
            slots[gives] -= 1
            slots[takes] += 1
    return slots


def _by_weight(
    limit: int, wanted: Mapping[str, int], weights: Mapping[str, float], before: Mapping[str, int]
) -> dict[str, int]:
    """Return whole slots, filled up evenly by weight, none beyond what is wanted.

    They are given out one by one, each to whoever then has the fewest for its weight (D'Hondt's
    method), so one slot more never takes one away from anybody.
    """
    if sum(wanted.values()) <= limit:
        return dict(wanted)
    level = _level(limit, wanted, weights)
    # All that lies below the level is given out by any order of giving.
    slots = {job: min(number, int(weights[job] * level)) for job, number in wanted.items()}

    def turn(job: str) -> tuple[float, bool, str]:
        return (slots[job] + 1) / weights[job], before[job] <= slots[job], job

    turns = [turn(job) for job, number in wanted.items() if slots[job] < number]
    heapq.heapify(turns)
    for _ in range(limit - sum(slots.values())):
        job = heapq.heappop(turns)[-1]
        slots[job] += 1
        if slots[job] < wanted[job]:
            heapq.heappush(turns, turn(job))
    return slots


def _level(limit: int, wanted: Mapping[str, int], weights: Mapping[str, float]) -> float:
    """Return the slots per weight at which all are given out, if slots could be divided."""
    left, weight, level = float(limit), sum(weights.values()), 0.0
    for job in sorted(wanted, key=lambda job: wanted[job] / weights[job]):
        level = left / weight
        if wanted[job] >= weights[job] * level:
            break
        left -= wanted[job]
        weight -= weights[job]
    return level
