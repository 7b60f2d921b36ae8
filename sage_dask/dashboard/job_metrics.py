"""What Prometheus is told of jobs and their stages.

Everything has the labels ``pipeline`` and ``job_id``, and goes with its job from
the board, so there are never more series than for the jobs that are shown.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from prometheus_client.core import CounterMetricFamily

from sage_dask.breakdown import RESIDUE
from sage_dask.dashboard.board import JobView
from sage_dask.dashboard.families import Family, add_sketch, counter, gauge, histogram
from sage_dask.endpoint.usage import Usage
from sage_dask.report import Report
from sage_dask.sketch import Sketch

# Not "job": by that label Prometheus says by which entry of its configuration it scrapes, and it
# would rename ours unless each user told it not to.
_JOB = ("pipeline", "job_id")
_STAGE = (*_JOB, "stage")

# The only part of a stage of which nothing finer is known.
WHOLE = "stage"


def job_families(jobs: Sequence[JobView]) -> Iterator[Family]:
    """Yield all families of jobs, those without a sample too."""
    named = [(_labels(view), view) for view in jobs]
    counted = [
        (labels, view.progress.report) for labels, view in named if view.progress.report is not None
    ]
    yield from _standing(named)
    yield _latency(named)
    yield from _spent(counted)
    yield from _stages(counted)
    yield _breakdown(counted)


def _labels(view: JobView) -> list[str]:
    # A job's name is "pipeline/id", and no id has a slash.
    return [view.progress.pipeline, view.name.rpartition("/")[2]]


def _standing(jobs: Sequence[tuple[list[str], JobView]]) -> Iterator[Family]:
    """Yield how far the jobs are."""
    state = gauge(
        "job_state",
        "1 for the state that the job is in: running, paused, silent (its driver has said nothing "
        "for long), lost (its driver has left without a word), or the outcome that it ended with.",
        *(*_JOB, "state"),
    )
    expected = gauge(
        "job_expected_records",
        "Records that the job's source says it has; absent where it does not know.",
        *_JOB,
    )
    eta = gauge(
        "job_eta_seconds",
        "Seconds that the job has to go, at its rate of the last ten seconds; absent where nobody "
        "knows.",
        *_JOB,
    )
    records = counter(
        "records",
        "Records of the job that are done, by outcome: written, failed, filtered; read counts what "
        "was read for them, before it expanded. Where records are taken back to be tried again, a "
        "count stands still until it is passed.",
        *(*_JOB, "outcome"),
    )
    for labels, view in jobs:
        progress = view.progress
        state.add_metric([*labels, view.state], 1)
        if progress.expected is not None:
            expected.add_metric(labels, progress.expected)
        if view.eta_s is not None and not view.is_over:
            eta.add_metric(labels, view.eta_s)
        for outcome in ("read", "written", "failed", "filtered"):
            records.add_metric([*labels, outcome], getattr(progress, f"num_{outcome}"))
    yield from (state, expected, eta, records)


def _latency(jobs: Sequence[tuple[list[str], JobView]]) -> Family:
    family = histogram(
        "record_latency_seconds",
        "Records that were written, by the seconds from their admission to their write; a batch's "
        "records have its latency. The sum is exact, bounds are true to 1 %.",
        *_JOB,
    )
    for labels, view in jobs:
        report, sketch = view.progress.report, Sketch(view.progress.latencies)
        if report is not None:
            num_records = sketch.num_records
            sum_s = report.latency.mean_s * num_records if num_records else 0.0
            add_sketch(family, labels, sketch, sum_s)
    return family


def _spent(jobs: Sequence[tuple[list[str], Report]]) -> Iterator[Family]:
    """Yield what stages that ask model servers have sent and paid."""
    tokens = counter(
        "tokens",
        "Tokens of the stage's requests, each counted under one kind: prompt_cached (found by the "
        "server in its prefix cache, where it says so), prompt (all others it was given), "
        "completion.",
        *(*_STAGE, "kind"),
    )
    cost = counter(
        "cost", "What these tokens cost, in the currency of the prices that were given.", *_STAGE
    )
    requests = counter("requests", "Requests sent to model servers, retries included.", *_STAGE)
    retries = counter("retries", "Requests sent again after a try that failed.", *_STAGE)
    hits = counter("cache_hits", "Answers from the response cache; nothing was sent.", *_STAGE)
    for labels, report in jobs:
        for name, stage in report.stages.items():
            usage, of_stage = stage.usage, [*labels, name]
            if usage:
                _add_tokens(tokens, of_stage, usage)
                cost.add_metric(of_stage, usage.cost)
                requests.add_metric(of_stage, usage.requests)
                retries.add_metric(of_stage, usage.retries)
                hits.add_metric(of_stage, usage.cache_hits)
    yield from (tokens, cost, requests, retries, hits)


def _add_tokens(family: CounterMetricFamily, labels: list[str], usage: Usage) -> None:
    family.add_metric([*labels, "prompt"], usage.prompt_tokens - usage.cached_tokens)
    family.add_metric([*labels, "prompt_cached"], usage.cached_tokens)
    family.add_metric([*labels, "completion"], usage.completion_tokens)


def _stages(jobs: Sequence[tuple[list[str], Report]]) -> Iterator[Family]:
    """Yield what passed through the stages, and what that took."""
    came = counter("stage_records_in", "Records that entered the stage.", *_STAGE)
    went = counter("stage_records_out", "Records that left the stage for the next.", *_STAGE)
    batches = histogram(
        "stage_batch_seconds",
        "Batches that passed the stage, by the seconds that it took for each, computing or waiting "
        "for answers: its records are in the stage for that long. The sum is the stage's busy "
        "seconds; its rate is how many tasks are in the stage. Bounds are true to 1 %.",
        *_STAGE,
    )
    for labels, report in jobs:
        for name, stage in report.stages.items():
            of_stage = [*labels, name]
            came.add_metric(of_stage, stage.records_in)
            went.add_metric(of_stage, stage.records_out)
            add_sketch(batches, of_stage, Sketch(stage.durations), stage.seconds)
    yield from (came, went, batches)


def _breakdown(jobs: Sequence[tuple[list[str], Report]]) -> Family:
    family = counter(
        "latency_seconds",
        "Latency of the records that were written, in parts: the rate of a part over that of "
        "sage_dask_record_latency_seconds_count is its share of the mean latency, and what the "
        "parts lack to sage_dask_record_latency_seconds_sum is what nobody accounts for. A part "
        "with a stage lies within it; the part 'stage' is all of it.",
        *(*_JOB, "part", "stage"),
    )
    for labels, report in jobs:
        for part, stage, seconds in _leaves(report):
            family.add_metric([*labels, part, stage], seconds)
    return family


def _leaves(report: Report) -> Iterator[tuple[str, str, float]]:
    """Yield part, stage and summed seconds of what has no parts of its own.

    The residue is none of them: it may shrink, and what can shrink is no counter.
    """
    breakdown = report.breakdown
    for part in breakdown.parts:
        if part.name == RESIDUE and not part.is_stage:
            continue
        if not part.is_stage:
            yield part.name, "", part.seconds * breakdown.num_records
        elif not part.parts:
            yield WHOLE, part.name, part.seconds * breakdown.num_records
        for within in part.parts:
            yield within.name, part.name, within.seconds * breakdown.num_records
