"""The stages of the chosen job: what came, what went, what it took."""

from __future__ import annotations

from sage_dask.dashboard.board import JobView
from sage_dask.dashboard.page import words
from sage_dask.dashboard.page.html import Column, Row, bar, clipped, panel, table
from sage_dask.markup import Child, Html, element
from sage_dask.metrics import in_short, money
from sage_dask.report import StageCost

# No pipeline that people read has more.
MOST_ROWS = 32

_COLUMNS = (
    Column("Stage"),
    Column("In", True, "records that entered it"),
    Column("Out", True, "records that left it"),
    Column("ms/record", True, "busy milliseconds per record that entered it"),
    Column("Busy time", meaning="its share of the busy time of all stages"),
)
_OF_CALLS = (
    Column("Requests", True, "sent to model servers, repeated ones included"),
    Column("Again", True, "of those, sent again after a failed try"),
    Column("Tokens", True, "in both directions"),
    Column("Cost", True),
)


def render(job: JobView) -> Html:
    """Return one row for each stage, with requests where any stage sends some."""
    report = job.progress.report
    if report is None or not report.stages:
        return panel("Stages", element("p", "nothing is back yet", class_="quiet"))
    total_s = sum(cost.seconds for cost in report.stages.values())
    asks = any(cost.usage.requests for cost in report.stages.values())
    rows = [_row(name, cost, total_s, asks) for name, cost in report.stages.items()]
    columns = _COLUMNS + (_OF_CALLS if asks else ())
    return panel("Stages", table(columns, rows[:MOST_ROWS], len(rows) - MOST_ROWS))


def _row(name: str, cost: StageCost, total_s: float, asks: bool) -> Row:
    share = cost.seconds / total_s if total_s else 0.0
    cells: list[Child] = [
        clipped(name, 60),
        f"{cost.records_in:,}",
        f"{cost.records_out:,}",
        words.milliseconds(cost.ms_per_record / 1000) if cost.records_in else words.UNKNOWN,
        element("span", bar(share), element("small", words.fine_share(share)), class_="beside"),
    ]
    if asks:
        usage = cost.usage
        cells += [
            f"{usage.requests:,}" if usage.requests else "",
            f"{usage.retries:,}" if usage.retries else "",
            in_short(usage.tokens) if usage.tokens else "",
            money(usage.cost) if usage.cost else "",
        ]
    return Row(cells)
