"""How much a job may spend, and when it has to stop reading.

Costs are known once a batch is back, so what is on its way counts as what
batches before it cost per record.  The first batches have no such measure:
a job overspends by no more than the batches that were under way together.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sage_dask.endpoint.usage import Usage
from sage_dask.errors import PlanError
from sage_dask.metrics import money
from sage_dask.schedule import is_positive
from sage_dask.stage import Stage


@dataclass(frozen=True, slots=True)
class Budget:
    """The most that one run may spend on requests; None does not limit."""

    max_cost: float | None = None
    """In the currency of the operators' prices."""
    max_tokens: int | None = None
    """Prompt and completion tokens together."""

    def __post_init__(self) -> None:
        for name, limit in self._limits().items():
            if limit is not None and not is_positive(limit):
                raise PlanError(
                    f"{name}={limit!r} must be a positive number; leave it out for no limit"
                )

    @property
    def is_limited(self) -> bool:
        """Whether there is anything to keep to."""
        return any(limit is not None for limit in self._limits().values())

    def check(self, stages: Iterable[Stage]) -> None:
        """Refuse a limit in money for a stage whose requests have no price.

        Raises:
            PlanError: The limit could never be reached, whatever was spent.
        """
        if self.max_cost is None:
            return
        for stage in stages:
            if stage.operator.endpoints and not getattr(stage.operator, "price", None):
                raise PlanError(
                    f"max_cost={self.max_cost:g} is given, but stage {stage.name!r} sends requests "
                    "that have no price, so they would count as free; give it price="
                    "{'prompt': ..., 'completion': ...} per million tokens, or give max_tokens"
                )

    def excess(self, usage: Usage) -> str | None:
        """Return which limit ``usage`` reaches, such as ``"max_cost=5"``; None where none is."""
        spent = {"max_cost": usage.cost, "max_tokens": usage.tokens}
        for name, limit in self._limits().items():
            if limit is not None and spent[name] >= limit:
                return f"{name}={limit:g}" if limit < 1e6 else f"{name}={limit:,.0f}"
        return None

    def _limits(self) -> Mapping[str, float | None]:
        return {"max_cost": self.max_cost, "max_tokens": self.max_tokens}


@dataclass(frozen=True, slots=True)
class SpendingStatistics:
    """What was spent so far, and on how many records."""

    cost: float
    tokens: int
    num_back: int
    num_away: int
    reached: str | None


class Spending:
    """What a job's requests cost so far, held against its budget."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._num_back = 0
        self._num_away = 0
        self.usage = Usage()
        """Of all batches that are back."""
        self.reached: str | None = None
        """The limit that ended the reading, such as ``"max_cost=5"``; stays once it is set."""

    def may_send(self) -> bool:
        """Return whether there is anything left for one more batch; once False, always False."""
        if self.reached is None and self._budget.is_limited:
            self.reached = self._budget.excess(self.usage) or self._budget.excess(self._expected())
        return self.reached is None

    def sent(self, num_records: int) -> None:
        """Count records that set out."""
        self._num_away += num_records

    def back(self, num_records: int) -> None:
        """Count records that set out and are back, whatever became of them."""
        self._num_away -= num_records
        self._num_back += num_records

    def spent(self, usage: Iterable[Usage | None]) -> None:
        """Count what requests cost."""
        for each in usage:
            if each is not None:
                self.usage.add(each)

    def recall(self, num_records: int, usage: Usage) -> None:
        """Count what earlier starts of the run spent."""
        self._num_back += num_records
        self.usage.add(usage)

    def told(self) -> str:
        """Return what was spent, in words."""
        cost = f"{money(self.usage.cost)} and " if self.usage.cost else ""
        return f"{cost}{self.usage.tokens:,} tokens"

    def statistics(self) -> SpendingStatistics:
        """Return the counts of this moment."""
        return SpendingStatistics(
            self.usage.cost, self.usage.tokens, self._num_back, self._num_away, self.reached
        )

    def _expected(self) -> Usage:
        """Return what will have been spent once everything under way is back."""
        share = self._num_away / self._num_back if self._num_back else 0.0
        return Usage(
            prompt_tokens=round(self.usage.prompt_tokens * (1 + share)),
            completion_tokens=round(self.usage.completion_tokens * (1 + share)),
            cost=self.usage.cost * (1 + share),
        )

    def __repr__(self) -> str:
        state = f"{self.reached} reached" if self.reached else "within budget"
        return f"<Spending {self.told()} on {self._num_back} records, {state}>"
