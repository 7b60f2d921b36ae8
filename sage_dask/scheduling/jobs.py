"""Fair shares between jobs, by stride scheduling over measured cost.

Every job has a pass, the seconds it was served divided by its weight.  The job
with the smallest pass is next, so over time each gets its weight's share of what
it asks for (Waldspurger and Weihl, "Stride Scheduling", 1995).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass

from sage_dask.errors import PlanError
from sage_dask.scheduling.view import EPSILON, Demand

# What a job that could not be served may catch up on, in seconds of work; more would let it
# shut the others out for as long.
MOST_CREDIT_S = 10.0

# Passes are divided by weights, and must stay numbers that can be told apart.
_LARGEST_WEIGHT = 1e6

# Jobs that are away and were served more than the others; those who caught up are forgotten.
_MOST_DEBTS = 1024


@dataclass(frozen=True, slots=True)
class JobStatistics:
    """One job at one moment."""

    weight: float
    num_queued: int
    num_running: int
    served_s: float
    """Seconds of work that it was given."""
    held: Mapping[str, float]
    """Resources and gate slots that its tasks hold."""


class Job:
    """What one job may have, has, and has had."""

    __slots__ = (
        "held",
        "is_paused",
        "name",
        "num_queued",
        "num_running",
        "pass_s",
        "quota",
        "served_s",
        "weight",
    )

    def __init__(self, name: str, weight: float, quota: Mapping[str, float], pass_s: float) -> None:
        self.name = name
        self.weight = weight
        self.quota = quota
        self.pass_s = pass_s
        self.served_s = 0.0
        self.is_paused = False
        self.held: dict[str, float] = {}
        self.num_queued = 0
        self.num_running = 0

    @property
    def is_restricted(self) -> bool:
        """Whether anything but the cluster may keep the job's tasks from starting."""
        return self.is_paused or bool(self.quota)

    def may_hold(self, demand: Demand) -> bool:
        """Return whether the job may start a task, beside what it holds: quota, and no pause."""
        return not self.is_restricted or not (self.is_paused or self.above_quota(demand))

    def above_quota(self, demand: Demand) -> list[str]:
        """Return the names of which a task would hold more than the quota leaves."""
        return [
            name
            for name, amount in demand.amounts
            if name in self.quota and self.held.get(name, 0.0) + amount > self.quota[name] + EPSILON
        ]

    def could_ever_hold(self, demand: Demand) -> bool:
        """Return whether a task's demand is within the quota by itself."""
        return all(amount <= self.quota.get(name, amount) for name, amount in demand.amounts)

    def take(self, demand: Demand) -> None:
        """Count a task that starts."""
        self.num_running += 1
        for name, amount in demand.amounts:
            self.held[name] = self.held.get(name, 0.0) + amount

    def give_back(self, demand: Demand) -> None:
        """Count a task that ended."""
        self.num_running -= 1
        for name, amount in demand.amounts:
            self.held[name] -= amount
        if not self.num_running:
            self.held.clear()

    def charge(self, seconds: float) -> None:
        """Count work, or take it back where it was overestimated."""
        self.served_s += seconds
        self.pass_s += seconds / self.weight

    @property
    def is_idle(self) -> bool:
        """Whether the job has nothing queued and nothing running."""
        return not self.num_queued and not self.num_running

    def statistics(self) -> JobStatistics:
        """Return the job's counts."""
        return JobStatistics(
            self.weight, self.num_queued, self.num_running, self.served_s, dict(self.held)
        )


class Jobs:
    """All jobs that have tasks, and what was said of any.

    What an operator sets, for a job or for all jobs of a pipeline, counts before what the job
    declared itself.
    """

    def __init__(self) -> None:
        self._jobs: dict[str, Job] = {}
        self._declared: dict[str, _Share] = {}
        self._weights: dict[str, float] = {}
        self._quotas: dict[str, Mapping[str, float]] = {}
        self._served_pass_s = 0.0
        self._debts: dict[str, float] = {}
        self._paused: set[str] = set()
        self._weight_sum = 0.0

    def __getitem__(self, name: str) -> Job:
        return self._jobs[name]

    def get(self, name: str) -> Job | None:
        """Return a job; None where it has no tasks."""
        return self._jobs.get(name)

    def __iter__(self) -> Iterator[Job]:
        return iter(self._jobs.values())

    def obtain(self, name: str) -> Job:
        """Return a job, new ones and returning ones at the pass that is being served now.

        So nobody is owed for the time it was away.
        """
        job = self._jobs.get(name)
        if job is None:
            job = self._jobs[name] = Job(
                name,
                self._weight(name),
                self._quota(name),
                max(self._served_pass_s, self._debts.pop(name, 0.0)),
            )
            job.is_paused = name in self._paused
            self._weight_sum += job.weight
        return job

    def charge(self, job: Job, seconds: float) -> None:
        """Charge a job that is served now."""
        job.pass_s = max(job.pass_s, self._served_pass_s - MOST_CREDIT_S)
        # It goes on as if all were served at once: else a stream of new jobs would start at one
        # and the same pass, before every job that was served already, for ever.
        share_s = seconds / max(self._weight_sum, job.weight)
        self._served_pass_s = max(self._served_pass_s + share_s, job.pass_s)
        job.charge(seconds)

    def drop(self, job: Job) -> None:
        """Forget the counts of a job that has nothing queued and nothing running."""
        del self._jobs[job.name]
        self._weight_sum -= job.weight
        if job.pass_s > self._served_pass_s:
            self._debts[job.name] = job.pass_s
            if len(self._debts) > _MOST_DEBTS:
                self._debts = {
                    name: pass_s
                    for name, pass_s in self._debts.items()
                    if pass_s > self._served_pass_s
                }

    def declare(self, name: str, weight: float, quota: Mapping[str, float]) -> None:
        """Note what a job asks for itself as it comes."""
        _check_weight(name, weight)
        _check_quota(name, quota)
        share = _Share(weight, quota)
        if self._declared.get(name) != share:
            self._declared[name] = share
            self._apply()

    def withdraw(self, name: str) -> None:
        """Forget what a job declared, as it is over."""
        self._declared.pop(name, None)
        self._debts.pop(name, None)

    def set_weight(self, name: str, weight: float) -> None:
        """Set the share of a job, or of each job of a pipeline, now and when it comes back."""
        _check_weight(name, weight)
        self._weights[name] = weight
        self._apply()

    def set_quota(self, name: str, quota: Mapping[str, float]) -> None:
        """Set the most that a job, or each job of a pipeline, may hold by resource or gate."""
        _check_quota(name, quota)
        self._quotas[name] = dict(quota)
        self._apply()

    def set_paused(self, name: str, is_paused: bool) -> None:
        """Have a job start nothing, now and when it comes back, until it is told otherwise."""
        (self._paused.add if is_paused else self._paused.discard)(name)
        job = self._jobs.get(name)
        if job is not None:
            job.is_paused = is_paused

    @property
    def paused(self) -> Set[str]:
        """Names of the jobs that are paused."""
        return self._paused

    def statistics(self) -> Mapping[str, JobStatistics]:
        """Return the counts of all jobs that have tasks."""
        return {job.name: job.statistics() for job in self._jobs.values()}

    def _apply(self) -> None:
        for job in self._jobs.values():
            job.weight, job.quota = self._weight(job.name), self._quota(job.name)
        self._weight_sum = sum(job.weight for job in self._jobs.values())

    def _weight(self, name: str) -> float:
        declared = self._declared.get(name)
        default = declared.weight if declared is not None else 1.0
        return self._weights.get(name, self._weights.get(pipeline_of(name), default))

    def _quota(self, name: str) -> Mapping[str, float]:
        declared = self._declared.get(name)
        default = declared.quota if declared is not None else {}
        return self._quotas.get(name, self._quotas.get(pipeline_of(name), default))


@dataclass(frozen=True, slots=True)
class _Share:
    weight: float
    quota: Mapping[str, float]


def pipeline_of(job: str) -> str:
    """Return the part of a job's name that all jobs of its pipeline share."""
    return job.partition("/")[0]


def _check_weight(name: str, weight: float) -> None:
    if not 1 / _LARGEST_WEIGHT <= weight <= _LARGEST_WEIGHT:
        raise PlanError(
            f"job {name!r}: weight {weight} is not between {1 / _LARGEST_WEIGHT:g} and "
            f"{_LARGEST_WEIGHT:g}; everyone's is 1"
        )


def _check_quota(name: str, quota: Mapping[str, float]) -> None:
    for what, amount in quota.items():
        if not amount >= 0:
            raise PlanError(
                f"job {name!r}: quota {what}={amount} must not be negative; 0 holds it back"
            )
