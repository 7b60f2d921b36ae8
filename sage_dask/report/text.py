"""A report as the lines that people read after each run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from sage_dask.endpoint.usage import Usage
from sage_dask.metrics import duration, in_short, money
from sage_dask.printable import plain
from sage_dask.report.figures import Figures
from sage_dask.report.rows import Row, breakdown_rows, few_rows

# Between the heading and the total; all together the breakdown has a dozen lines.
_MOST_ROWS = 10

_MOST_FAILURES = 5


def lines(figures: Figures, *, in_full: bool = False) -> Iterator[str]:
    """Yield a report line by line.

    Args:
        figures: What was counted.
        in_full: Whether all parts of the latency, the last failures and what the run was
            made with are told, too.
    """
    yield from _head(figures)
    yield from _usage_lines(figures)
    for what, seconds in figures.startup_s.items():
        yield f"  start-up    {duration(seconds)} {what} (not in the figures above)"
    if figures.setup_s:
        yield f"  set-up      {duration(figures.setup_s)} on workers that joined during the run"
    yield from _stage_lines(figures)
    yield from _breakdown_lines(figures, in_full=in_full)
    if in_full:
        yield from _details(figures)
    if figures.output:
        yield f"  output      {figures.output}"


def _head(figures: Figures) -> Iterator[str]:
    starts = f", start {figures.num_starts}" if figures.num_starts > 1 else ""
    yield (
        f"pipeline {figures.pipeline}, job {figures.job}, {figures.runner}{starts}: "
        f"{figures.outcome}"
    )
    if figures.message:
        yield f"  {figures.message}"
    expanded = f"   expanded {figures.num_expanded:,}" if figures.num_expanded else ""
    yield (
        f"  records     in {figures.num_read:,}   out {figures.num_written:,}   "
        f"failed {figures.num_failed:,}   filtered {figures.num_filtered:,}{expanded}"
    )
    for kind, count in sorted(figures.failures.items(), key=lambda item: -item[1])[:_MOST_FAILURES]:
        yield f"  failed      {count:,} x {kind}"
    if figures.is_timed:
        yield (
            f"  throughput  {figures.throughput:,.1f} records/s over "
            f"{duration(figures.makespan_s)} (first read to last write)"
        )
    else:
        yield "  throughput  not measured: no batch was done"
    latency = figures.latency
    if latency.num_records:
        yield (
            f"  latency     mean {duration(latency.mean_s)}   P50 {duration(latency.p50_s)}   "
            f"P99 {duration(latency.p99_s)}"
        )
    else:
        yield "  latency     not measured: no record was written"
    if figures.nodes and figures.is_timed:
        yield (
            f"  balance     {figures.balance_of_records:.3f} of records, "
            f"{figures.balance_of_busy_time:.3f} of busy time, over "
            f"{len(figures.nodes)} node{'' if len(figures.nodes) == 1 else 's'}"
        )


def _usage_lines(figures: Figures) -> Iterator[str]:
    usage = figures.usage
    if usage.requests or usage.cache_hits:
        again = f", {usage.retries:,} again" if usage.retries else ""
        hits = f", {usage.cache_hits:,} from the cache" if usage.cache_hits else ""
        yield f"  requests    {usage.requests:,} sent{again}{hits}"
    if usage.tokens:
        share = usage.cached_tokens / usage.prompt_tokens if usage.prompt_tokens else 0.0
        cached = f" ({share:.0%} cached by the server)" if usage.cached_tokens else ""
        yield (
            f"  tokens      prompt {in_short(usage.prompt_tokens)}{cached}   "
            f"completion {in_short(usage.completion_tokens)}   {figures.tokens_per_s:,.0f} tok/s"
        )
    if usage.cost:
        yield f"  cost        {money(usage.cost)}"


def _stage_lines(figures: Figures) -> Iterator[str]:
    total = sum(cost.seconds for cost in figures.stages.values())
    width = max((len(name) for name in figures.stages), default=0)
    for name, cost in figures.stages.items():
        if not cost.records_in:
            yield f"  stage       {name:<{width}}  not measured: no record came to it"
            continue
        share = cost.seconds / total if total else 0.0
        yield (
            f"  stage       {name:<{width}}  {cost.ms_per_record:10.3f} ms/record  "
            f"{share:6.1%} of busy time   {cost.records_in:,} in, {cost.records_out:,} out"
            f"{_spent(cost.usage)}"
        )


def _spent(usage: Usage) -> str:
    """Return what a stage's requests took, in a few words; nothing where it sent none."""
    parts = [f"{in_short(usage.tokens)} tokens"] if usage.tokens else []
    parts += [f"cost {money(usage.cost)}"] if usage.cost else []
    return f"; {', '.join(parts)}" if parts else ""


def _breakdown_lines(figures: Figures, *, in_full: bool) -> Iterator[str]:
    """Yield where the latency went: a heading, the rows, and what they add up to."""
    breakdown = figures.breakdown
    if not breakdown.num_records:
        # Without a latency nobody asks where it went.
        if figures.latency.num_records:
            yield "  breakdown   not measured: the events are of an older version"
        return
    rows = breakdown_rows(breakdown) if in_full else few_rows(breakdown, _MOST_ROWS)
    named = [(f"{'  ' if row.is_sub_part else ''}{row.name}", row) for row in rows]
    width = max(len("total"), *(len(name) for name, _ in named))
    some = "" if breakdown.num_records >= figures.latency.num_records else _of_some(figures)
    yield f"  breakdown   {'of the mean latency' + some:<{width}}  {'ms/record':>11}   share"
    for name, row in named:
        yield f"              {name:<{width}}  {_amounts(row)}"
    total = Row("total", breakdown.latency_s, 1.0)
    yield f"              {total.name:<{width}}  {_amounts(total)}"


def _of_some(figures: Figures) -> str:
    """Return for how many records a breakdown stands that does not stand for all."""
    return f", {figures.breakdown.num_records:,} of {figures.latency.num_records:,} records"


def _amounts(row: Row) -> str:
    # Parts of a stage are set to the left of what adds up.
    indent = " " * (0 if row.is_sub_part else 2)
    return f"{indent}{1000 * row.seconds:9,.3f}{'' if indent else '  '}  {row.share:6.1%}"


def _details(figures: Figures) -> Iterable[str]:
    """Yield what is asked for once something is amiss, or is to be repeated."""
    for record, what in figures.last_failures.items():
        yield f"  failed last {plain(record)}: {plain(what)}"
    if figures.started_at:
        yield f"  started     {figures.started_at}"
    if figures.policy:
        yield f"  policy      {figures.policy}"
    if figures.command:
        yield f"  command     {figures.command}"
    if figures.versions:
        said = ", ".join(f"{name} {version}" for name, version in figures.versions.items())
        yield f"  versions    {said}"
