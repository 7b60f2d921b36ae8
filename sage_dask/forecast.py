"""What a run would send and cost, in figures and in words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from sage_dask.errors import PlanError, counted
from sage_dask.metrics import clock_time, in_short, money


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast servers answer, as far as the user knows; nothing known gives no time."""

    tokens_per_s: float | None = None
    """Prompt and completion tokens together, as a report shows them."""
    seats: int | None = None
    """Requests that are answered at once."""
    latency_s: float | None = None
    """Mean time of one request."""

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value is not None and not value > 0:
                raise PlanError(f"{name}={value!r} must be a positive number")
        if (self.seats is None) != (self.latency_s is None):
            raise PlanError(
                f"seats={self.seats} and latency_s={self.latency_s} go together; give both, or "
                "tokens_per_s instead"
            )

    def seconds(self, requests: float, tokens: float) -> float | None:
        """Return how long requests and their tokens take; the longer one where both are known."""
        known = []
        if self.tokens_per_s is not None:
            known.append(tokens / self.tokens_per_s)
        if self.seats is not None and self.latency_s is not None:
            known.append(requests * self.latency_s / self.seats)
        return max(known, default=None)

    def __str__(self) -> str:
        words = [f"{self.tokens_per_s:,.0f} tok/s"] if self.tokens_per_s else []
        words += [f"{self.seats} seats of {self.latency_s:g} s"] if self.seats else []
        return " and ".join(words)


@dataclass(frozen=True, slots=True)
class StageEstimate:
    """What one stage would send; sums over the whole source where its size is known."""

    requests: float
    prompt_tokens: float
    max_completion_tokens: float | None
    """None where an answer may be of any length."""
    cost_least: float
    """Of the prompts alone."""
    cost_most: float | None
    """With answers as long as they may be."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a run would send and cost."""

    pipeline: str
    num_sampled: int
    num_failed: int
    """Records of the sample that failed before a request could be made of them."""
    num_records: int | None
    """Records of the source; None where it does not say, and figures are of the sample alone."""
    stages: Mapping[str, StageEstimate]
    unknown: tuple[str, ...]
    """Stages that send requests of which nothing can be known before the others answered."""
    pace: Pace = field(default_factory=Pace)

    @property
    def requests(self) -> float:
        """Requests of all stages that could be estimated."""
        return sum(stage.requests for stage in self.stages.values())

    @property
    def tokens(self) -> tuple[float, float | None]:
        """Fewest and most tokens in both directions; None is no bound."""
        least = sum(stage.prompt_tokens for stage in self.stages.values())
        longest = total(stage.max_completion_tokens for stage in self.stages.values())
        return least, None if longest is None else least + longest

    @property
    def cost(self) -> tuple[float, float | None]:
        """Least and most cost; None is no bound."""
        least = sum(stage.cost_least for stage in self.stages.values())
        return least, total(stage.cost_most for stage in self.stages.values())

    @property
    def seconds(self) -> tuple[float | None, float | None]:
        """Shortest and longest time at the given pace; None is not known."""
        least, most = self.tokens
        longest = None if most is None else self.pace.seconds(self.requests, most)
        return self.pace.seconds(self.requests, least), longest

    def as_dict(self) -> dict[str, Any]:
        """Return the estimate as plain values, for JSON."""
        sums = {"requests": self.requests, "tokens": self.tokens, "cost": self.cost}
        return asdict(self) | sums | {"seconds": self.seconds}

    def __str__(self) -> str:
        return "\n".join(_lines(self))


def total(amounts: Iterable[float | None]) -> float | None:
    """Return a sum; None where a part of it has no bound."""
    known = list(amounts)
    return None if None in known else sum(amount for amount in known if amount is not None)


def _lines(estimate: Estimate) -> Iterator[str]:
    yield f"pipeline {estimate.pipeline}, dry run: nothing was sent"
    of = f" of {estimate.num_records:,}" if estimate.num_records is not None else ""
    yield f"  sample      the first {estimate.num_sampled:,}{of} records"
    if estimate.num_failed:
        failed = counted(estimate.num_failed, "record")
        yield f"  failed      {failed} of the sample, before a request"
    for name, stage in estimate.stages.items():
        yield f"  stage       {name}: {_stage_words(stage)}"
    if estimate.stages:
        yield from _sum_lines(estimate)
    for name in estimate.unknown:
        yield f"  not known   {name}: what it would send depends on answers that nobody has"
    yield from (f"  assumed     {text}" for text in _assumptions(estimate))


def _stage_words(stage: StageEstimate) -> str:
    each = max(stage.requests, 1)
    longest = stage.max_completion_tokens
    answers = (
        "answers of any length"
        if longest is None
        else f"completion at most {in_short(longest)} ({longest / each:,.0f} each)"
    )
    return (
        f"{stage.requests:,.0f} requests, prompt {in_short(stage.prompt_tokens)} tokens "
        f"({stage.prompt_tokens / each:,.0f} each), {answers}"
    )


def _sum_lines(estimate: Estimate) -> Iterator[str]:
    least, most = estimate.tokens
    yield f"  tokens      {_range(in_short(least), None if most is None else in_short(most))}"
    low, high = estimate.cost
    if low or high:
        yield f"  cost        {_range(money(low), None if high is None else money(high))}"
    soonest, latest = estimate.seconds
    if soonest is not None:
        latest_words = None if latest is None else clock_time(latest)
        yield f"  time        {_range(clock_time(soonest), latest_words)} at {estimate.pace}"


def _range(least: str, most: str | None) -> str:
    if most is None:
        return f"{least} or more"
    return least if most == least else f"{least} to {most}"


def _assumptions(estimate: Estimate) -> Iterator[str]:
    if estimate.num_records is None:
        yield "nothing of the other records: the source does not say how many there are"
    else:
        yield "the other records are like the first"
    yield "no answer is in the response cache, and no request is sent again"
    yield "tokens are counted as the operator counts them without a server: by characters"
