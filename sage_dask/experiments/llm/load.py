"""Requests to measure with: prompts by number or by time, and a sink that only counts."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

from sage_dask.operators import Generate
from sage_dask.pipeline import Pipeline
from sage_dask.record import Failure, Record, SourceItem
from sage_dask.stage import Sink, Source

_NUM_LETTERS = 26


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What is asked of whom; plain values, so that it travels as JSON."""

    endpoints: Sequence[str]
    model: str = "timed"
    requests: int | None = None
    """How many; None goes by ``seconds``."""
    seconds: float | None = None
    """How long prompts are handed out, from the first one on."""
    max_tokens: int = 16
    limit: int | None = None
    """Requests in flight per server; None has it found."""
    prompt_chars: int = 0
    """Least length of each prompt; it is filled up in front of what tells it from others."""
    tenants: int = 1
    """Different beginnings of ``prompt_chars`` characters, drawn by chance."""
    has_affinity: bool = True
    """Whether requests with one beginning prefer one replica."""
    seed: int = 0
    """Of the draw of tenants."""
    poison: str = ""
    """Fault that some prompts order at every try of theirs, such as ``cut``."""
    poison_every: int = 0
    """One in so many, from the first on; 0 for none."""
    poison_from: int | None = None
    """And all from this number on."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Further parameters of the operator."""

    def prompt(self, number: int) -> str:
        """Return the prompt of a request; no two are equal."""
        if self._is_poisoned(number):
            return f"question {number} [[fault:{self.poison}]]"
        tenant = 0
        if self.tenants > 1:
            draw = random.Random(f"{self.seed}/{number}")  # noqa: S311 - no secret
            tenant = draw.randrange(self.tenants)
        start = f"Tenant {tenant}. "
        letter = chr(ord("a") + tenant % _NUM_LETTERS)
        filled = start + letter * (self.prompt_chars - len(start)) if self.prompt_chars else ""
        return f"{filled} question {number}".strip()

    def _is_poisoned(self, number: int) -> bool:
        is_one_of = self.poison_every and number % self.poison_every == 0
        return bool(is_one_of) or (self.poison_from is not None and number >= self.poison_from)

    def body(self, number: int) -> dict[str, Any]:
        """Return the request that the operator makes of a prompt, for clients that are not ours."""
        return {
            "max_tokens": self.max_tokens,
            "temperature": 0.7,
            "model": self.model,
            "messages": [{"role": "user", "content": self.prompt(number)}],
        }

    def numbers(self) -> Iterator[int]:
        """Yield the numbers of the prompts, as long as there are any."""
        until_s = time.monotonic() + (float("inf") if self.seconds is None else self.seconds)
        for number in count() if self.requests is None else range(self.requests):
            if time.monotonic() >= until_s:
                return
            yield number

    def pipeline(self, sink: Sink, name: str = "asking") -> Pipeline:
        """Return the pipeline that sends one request per record."""
        operator = (Generate if self.has_affinity else Unattached)(
            endpoint=list(self.endpoints),
            model=self.model,
            max_tokens=self.max_tokens,
            limit=self.limit,
            cache=False,
            **self.options,
        )
        return Pipeline(name).source(Prompts(self)).stage("generate", operator).sink(sink)


@dataclass
class Prompts(Source):
    """The prompts of a load."""

    load: Load

    def size(self) -> int | None:
        """Return how many there are, where that is settled by number."""
        return self.load.requests

    def read(self) -> Iterator[SourceItem | Failure]:
        """Yield the prompts."""
        for number in self.load.numbers():
            yield SourceItem(str(number), {"prompt": self.load.prompt(number)})


class Tally(Sink):
    """Forgets what it is given, and keeps when how much of it came."""

    def __init__(self) -> None:
        self.rows: list[tuple[float, int]] = []
        """Time by the monotonic clock, which all processes of a machine share; and records."""

    def write(self, ids: Sequence[str], records: Sequence[Record]) -> Sequence[Failure]:
        """Count records."""
        self.rows.append((time.monotonic(), len(records)))
        return ()

    def write_failures(self, failures: Sequence[Failure]) -> None:
        """Forget failures; the report counts them."""


@dataclass
class Unattached(Generate):
    """The operator as it would be if it paid no attention to prefixes."""

    def setup(self) -> None:
        """Make the client, and have it name no prefix."""
        super().setup()
        if self._asker is not None:
            self._asker = replace(self._asker, has_replicas=False)
