"""The tables of one report, from which its forms are made."""

from __future__ import annotations

from collections.abc import Mapping

from sage_dask.metrics import money
from sage_dask.report.categories import MEANINGS, categories
from sage_dask.report.figures import Figures, StageCost
from sage_dask.report.measures import measures
from sage_dask.report.rows import Row, breakdown_rows
from sage_dask.report.table import INDENT, Table

# Of what was no figure to measure.
NOT_KNOWN = "not known"

_MS, _SHARE = "ms/record", "share %"


def summary_table(figures: Figures) -> Table:
    """Return the figures that have one value each."""
    rows = [(each.name, each.text, each.unit) for each in measures(figures)]
    return Table("Summary", ("figure", "value", "unit"), rows, words=(0, 2))


def breakdown_table(figures: Figures) -> Table:
    """Return the parts of the mean latency, which add up to it."""
    breakdown = figures.breakdown
    rows = [row_of_part(row) for row in breakdown_rows(breakdown)]
    if breakdown.num_records:
        rows.append(row_of_part(Row("total", breakdown.latency_s, 1.0)))
    note = _of_how_many(figures)
    columns = ("part", _MS, _SHARE, "what it is")
    return Table("Where the latency went", columns, rows, words=(0, 3), note=note)


def row_of_part(row: Row) -> tuple[str, str, str, str]:
    """Return a part of the latency as cells: name, milliseconds, per cent, meaning."""
    name = f"{INDENT if row.is_sub_part else ''}{row.name}"
    return name, f"{1000 * row.seconds:,.3f}", f"{100 * row.share:.1f}", row.meaning


def categories_table(figures: Figures) -> Table:
    """Return the latency in the categories of the SAGE evaluation; they add up to it."""
    breakdown = figures.breakdown
    folded = categories(breakdown)
    rows: list[tuple[str, str | None, str | None]] = []
    for name in (*MEANINGS, "total"):
        seconds = folded.get(name, breakdown.latency_s) if folded else None
        share = seconds / breakdown.latency_s if seconds is not None else 0.0
        milliseconds = None if seconds is None else f"{1000 * seconds:,.3f}"
        rows.append((name, milliseconds, None if seconds is None else f"{100 * share:.1f}"))
    note = _of_how_many(figures)
    return Table("Latency by category", ("category", _MS, _SHARE), rows, note=note)


def stages_table(figures: Figures) -> Table:
    """Return what each stage took."""
    total = sum(cost.seconds for cost in figures.stages.values())
    rows = []
    for name, cost in figures.stages.items():
        ms = f"{cost.ms_per_record:,.3f}" if cost.records_in else None
        share = f"{100 * cost.seconds / total:.1f}" if total and cost.records_in else None
        counts = f"{cost.records_in:,}", f"{cost.records_out:,}"
        rows.append((name, ms, share, f"{cost.seconds:,.2f}", *counts))
    columns = ("stage", _MS, "% of busy time", "busy s", "records in", "records out")
    return Table("Stages", columns, rows)


def nodes_table(figures: Figures) -> Table:
    """Return what each node did."""
    rows = [
        (name, f"{node.num_records:,}", f"{node.busy_s:,.2f}", f"{node.num_tasks:,}")
        for name, node in figures.nodes.items()
    ]
    note = ""
    if figures.nodes and figures.is_timed:
        note = (
            f"Balance {figures.balance_of_records:.3f} of records, "
            f"{figures.balance_of_busy_time:.3f} of busy time; 1 is even."
        )
    return Table("Nodes", ("node", "records", "busy s", "tasks"), rows, note=note)


def requests_table(figures: Figures) -> Table:
    """Return what the stages that ask model servers sent, and what that cost."""
    rows = []
    for name, cost in _asking(figures).items():
        usage = cost.usage
        counts = (usage.requests, usage.retries, usage.cache_hits)
        tokens = (usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens)
        price = money(usage.cost) if usage.cost else None
        rows.append((name, *(f"{number:,}" for number in (*counts, *tokens)), price))
    columns = ("stage", "requests", "again", "from cache", "prompt tokens", "cached", "completion")
    return Table("Requests to model servers", (*columns, "cost"), rows)


def calls_table(figures: Figures) -> Table:
    """Return where the time of a call went: by our clock, and as the server tells."""
    rows = []
    for name, cost in _asking(figures).items():
        calls = cost.calls
        ours = [_mean_ms(s, calls.calls) for s in (calls.turn_s, calls.sent_s, calls.backoff_s)]
        told_s = (calls.queue_s, calls.first_token_s, calls.generation_s)
        theirs = [_mean_ms(seconds, calls.told) for seconds in told_s]
        rows.append((name, f"{calls.calls:,}", *ours, *theirs))
    columns = ("stage", "calls", "slot", "sent", "back-off", "queue", "first token", "generation")
    note = "Mean ms per call; the last three are the server's own, per answer that tells them."
    return Table("Calls to model servers", columns, rows, note=note)


def failures_table(figures: Figures) -> Table:
    """Return failures by kind, the most frequent first."""
    by_number = sorted(figures.failures.items(), key=lambda item: (-item[1], item[0]))
    rows = [(kind, f"{number:,}") for kind, number in by_number]
    return Table("Failures", ("stage: error", "records"), rows)


def last_failures_table(figures: Figures) -> Table:
    """Return the latest failures with their words, the latest first."""
    rows = list(figures.last_failures.items())[::-1]
    return Table("Last failures", ("record", "what happened"), rows, words=(0, 1))


def startup_table(figures: Figures) -> Table:
    """Return what was spent before the first record, and set-up on workers that joined late."""
    rows = [(what, f"{seconds:,.2f}") for what, seconds in figures.startup_s.items()]
    if figures.setup_s:
        rows.append(("set-up on workers that joined during the run", f"{figures.setup_s:,.2f}"))
    return Table("Start-up", ("what", "s"), rows, note="Not in the makespan, but for the set-up.")


def conditions_table(figures: Figures) -> Table:
    """Return what the run was made with, as far as its events tell."""
    rows = [
        ("ran", figures.runner),
        ("starts", f"{figures.num_starts:,}"),
        ("last start", figures.started_at or NOT_KNOWN),
        ("policy", figures.policy or NOT_KNOWN),
        ("command", figures.command or NOT_KNOWN),
        ("output", figures.output or NOT_KNOWN),
        *figures.versions.items(),
    ]
    return Table("Conditions", ("what", "value"), rows, words=(0, 1))


def _asking(figures: Figures) -> Mapping[str, StageCost]:
    """Return the stages that asked model servers."""
    return {name: cost for name, cost in figures.stages.items() if cost.usage or cost.calls}


def _mean_ms(seconds: float, number: int) -> str | None:
    return f"{1000 * seconds / number:,.2f}" if number else None


def _of_how_many(figures: Figures) -> str:
    """Say for which records a breakdown stands, where it stands for some or none."""
    measured, written = figures.breakdown.num_records, figures.latency.num_records
    if measured == written:
        return ""
    if not measured:
        return "Not measured: the events are of an older version."
    return f"Of {measured:,} of {written:,} records; the others are of an older version."
