"""What a run would send, learned from a sample of its records before anything is sent.

The first records of the source pass all stages up to the first that sends
requests; that one is asked what it would send for each of them.  The rest of
the source is taken to be like them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice

from sage_dask.endpoint.prices import Prices
from sage_dask.endpoint.usage import Usage
from sage_dask.errors import PlanError, listed
from sage_dask.forecast import Estimate, Pace, StageEstimate, total
from sage_dask.operators.memory import Collect
from sage_dask.options import RunOptions
from sage_dask.plan import Batching, Plan
from sage_dask.record import Failure, Record, SourceItem
from sage_dask.runner import LocalRunner
from sage_dask.stage import Source, Stage

SAMPLE = 20


def estimate(plan: Plan, *, sample: int = SAMPLE, pace: Pace | None = None) -> Estimate:
    """Estimate what a run of ``plan`` would send; reads the source's first records, sends nothing.

    Args:
        plan: What would run.
        sample: Records to read.
        pace: How fast servers answer, for an estimate of the time.

    Raises:
        PlanError: No stage sends requests, so there is nothing to estimate.
        SageError: The source can not be read, or a stage before the first request not be made
            ready.
    """
    if sample < 1:
        raise PlanError(f"sample={sample} must be at least 1")
    stages = [stage for task in plan.stages for stage in task.stages]
    sending = [stage for stage in stages if stage.operator.endpoints]
    if not sending:
        raise PlanError(
            f"pipeline {plan.pipeline!r} sends no requests (its stages are "
            f"{listed(stage.name for stage in stages)}), so a dry run has nothing to estimate"
        )
    size = plan.source.size()
    first = _First(plan.source, sample)
    records, num_failed = _before(plan, sending[0], first)
    if first.is_whole:
        size = first.num_read
    share = 1.0 if size is None else size / max(1, first.num_read)
    told, num_odd = _asked(sending[0], records)
    known = {} if told is None else {sending[0].name: _stage_estimate(sending[0], told, share)}
    return Estimate(
        plan.pipeline,
        first.num_read,
        num_failed + num_odd,
        size,
        known,
        tuple(stage.name for stage in sending if stage.name not in known),
        pace or Pace(),
    )


class _First(Source):
    """The first records of a source."""

    def __init__(self, source: Source, most: int) -> None:
        self._source = source
        self._most = most
        self.num_read = 0
        self.is_whole = False

    @property
    def name(self) -> str:
        return self._source.name

    def read(self) -> Iterator[SourceItem | Failure]:
        rows = iter(self._source.read())
        try:
            for row in islice(rows, self._most):
                self.num_read += 1
                yield row
            self.is_whole = self.num_read < self._most
        finally:
            close = getattr(rows, "close", None)
            if close is not None:
                close()


def _before(plan: Plan, sending: Stage, source: _First) -> tuple[Sequence[Record], int]:
    """Run what stands before the first request; return the records that reach it, and failures."""
    tasks = []
    for task in plan.stages:
        place = task.stages.index(sending) if sending in task.stages else len(task.stages)
        if place:
            tasks.append(replace(task, stages=task.stages[:place]))
        if sending in task.stages:
            break
    sink = Collect()
    batching = Batching(fixed=source._most)
    cut = replace(plan, source=source, stages=tuple(tasks), sink=sink, batching=batching)
    report = LocalRunner().run(cut, RunOptions())
    return sink.records, report.num_failed


def _asked(
    stage: Stage, records: Sequence[Record]
) -> tuple[Sequence[Mapping[str, float]] | None, int]:
    """Ask a stage what it would send for each record; None where it can not tell.

    Also returns of how many records no request can be made.
    """
    preview = getattr(stage.operator, "preview", None)
    if preview is None:
        return None, 0
    told, num_odd = [], 0
    for record in records:
        try:
            request = preview(record)
        except Exception:
            num_odd += 1
            continue
        if request is None:
            return None, num_odd
        told.append(request)
    return told, num_odd


def _stage_estimate(
    stage: Stage, told: Sequence[Mapping[str, float]], share: float
) -> StageEstimate:
    prices = Prices.of(getattr(stage.operator, "price", None) or {})
    prompt = sum(request["prompt_tokens"] for request in told)
    longest = total(request.get("max_completion_tokens") for request in told)
    return StageEstimate(
        requests=share * len(told),
        prompt_tokens=share * prompt,
        max_completion_tokens=None if longest is None else share * longest,
        cost_least=share * _cost(prices, prompt, 0),
        cost_most=None if longest is None else share * _cost(prices, prompt, longest),
    )


def _cost(prices: Prices, prompt: float, completion: float) -> float:
    return prices.cost(Usage(prompt_tokens=round(prompt), completion_tokens=round(completion)))
