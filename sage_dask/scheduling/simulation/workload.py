"""Work for the simulator: batches, the steps each takes, and when they come.

A workload is plain data.  Durations and arrivals that were measured on a real
cluster go in as lists; drawn ones are drawn anew, from the same seed, each time
somebody iterates, so one workload can be run under many policies and a million
batches need no memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import TypeAlias

from sage_dask.scheduling.view import Demand


@dataclass(frozen=True, slots=True)
class Step:
    """One task of a batch."""

    stage: str
    seconds: float
    """What it computes for, on a node of speed one."""
    demand: Demand = field(default_factory=Demand)
    output_bytes: int = 0
    """Input of the next step, which lies where this one ran."""
    server: str | None = None
    """Model server that it calls when it has computed."""
    request_s: float = 0.0
    """What the call takes once it has a seat there."""


@dataclass(frozen=True, slots=True)
class Batch:
    """A chain of tasks: each is ready when the one before has ended."""

    arrives_s: float
    steps: tuple[Step, ...]
    priority: float = 0.0


@dataclass(frozen=True)
class Stream:
    """The batches of one job.

    Without a window the loop is open: batches come when they come, however many are under way.
    With one it is closed: the next batch is handed over when one of those in flight has ended,
    at ``arrives_s`` at the earliest.
    """

    job: str
    batches: Iterable[Batch]
    """In the order of arrival; iterated once per simulation."""
    window: int | None = None
    weight: float = 1.0
    quota: Mapping[str, float] = field(default_factory=dict)


Draw: TypeAlias = Callable[[Random], tuple[Step, ...]]


@dataclass(frozen=True)
class Poisson:
    """Batches at random times, at a constant rate; those of one seed are always the same."""

    rate_per_s: float
    """On average; ``math.inf`` for all at once."""
    num_batches: int
    draw: Draw
    """Makes the steps of a batch."""
    seed: int = 0
    priority: float = 0.0
    starts_s: float = 0.0

    def __iter__(self) -> Iterator[Batch]:
        random = Random(self.seed)  # noqa: S311 - a simulation, not a secret
        at_s = self.starts_s
        for _ in range(self.num_batches):
            at_s += random.expovariate(self.rate_per_s)
            yield Batch(at_s, self.draw(random), self.priority)


def uniform(
    shortest_s: float, longest_s: float, stage: str = "work", demand: Demand | None = None
) -> Draw:
    """Return what draws one step, of any duration in a range with equal probability."""
    demand = demand or Demand()
    spread_s = longest_s - shortest_s
    return lambda random: (Step(stage, shortest_s + spread_s * random.random(), demand),)


def exponential(mean_s: float, stage: str = "work", demand: Demand | None = None) -> Draw:
    """Return what draws one step, of a duration without memory."""
    demand = demand or Demand()
    rate_per_s = 1 / mean_s
    return lambda random: (Step(stage, random.expovariate(rate_per_s), demand),)


def single_steps(
    seconds: Sequence[float],
    arrivals_s: Sequence[float] | None = None,
    *,
    stage: str = "work",
    demand: Demand | None = None,
    priority: float = 0.0,
) -> list[Batch]:
    """Return batches of one step each, from measured durations.

    Args:
        seconds: What each computes for.
        arrivals_s: When each comes, as many; all at once where there are none.
        stage: Stage of all.
        demand: What each holds; a thread where there is none.
        priority: Of all.

    Raises:
        ValueError: Not as many arrivals as durations.
    """
    demand = demand or Demand()
    if arrivals_s is None:
        arrivals_s = [0.0] * len(seconds)
    if len(arrivals_s) != len(seconds):
        raise ValueError(
            f"{len(arrivals_s)} arrivals for {len(seconds)} durations; give one for each, or none"
        )
    return [
        Batch(at_s, (Step(stage, took_s, demand),), priority)
        for took_s, at_s in zip(seconds, arrivals_s, strict=True)
    ]
