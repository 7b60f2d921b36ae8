"""Write the dashboard for Grafana that the package carries: ``python tools/grafana.py``.

What is shown stands in a table of rows, panels and queries; the JSON around it
is the same for all of them, and is made here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PATH = Path(__file__).resolve().parent.parent / "sage_dask" / "dashboard" / "grafana.json"

# Of Grafana 10.0; later ones read it, too.
SCHEMA_VERSION = 38

_COLUMNS = 24
_WIDTH, _HEIGHT = 8, 8

_DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}

_CLUSTER = 'instance=~"$scheduler"'
_JOBS = f'{_CLUSTER},pipeline=~"$pipeline",job_id=~"$job"'

_JOB, _JOB_NAME = "pipeline, job_id", "{{pipeline}}/{{job_id}}"


def of_jobs(name: str, matching: str = "") -> str:
    """Return the selector of a metric for the jobs that are chosen."""
    return f"sage_dask_{name}{{{_JOBS}{matching}}}"


def of_cluster(name: str) -> str:
    """Return the selector of a metric for the schedulers that are chosen."""
    return f"sage_dask_{name}{{{_CLUSTER}}}"


def rate(selector: str, by: str = "") -> str:
    """Return what is added per second, by labels or in all."""
    added_up = f"sum by ({by})" if by else "sum"
    return f"{added_up} (rate({selector}[$__rate_interval]))"


def quantile(share: float, name: str, by: str) -> str:
    """Return a percentile of a histogram, by labels."""
    return f"histogram_quantile({share}, {rate(of_jobs(f'{name}_bucket'), f'{by}, le')})"


@dataclass(frozen=True)
class Query:
    """One expression, and how its series are called."""

    expression: str
    legend: str


@dataclass(frozen=True)
class Panel:
    """One graph, or what else shows a few expressions."""

    title: str
    unit: str
    queries: tuple[Query, ...]
    kind: str = "timeseries"
    is_stacked: bool = False
    width: int = _WIDTH
    meaning: str = ""


_READ = of_jobs("records_total", ',outcome="read"')
_WRITTEN = of_jobs("record_latency_seconds_count")
_PARTS = of_jobs("latency_seconds_total")

_JOB_PANELS = (
    Panel(
        "Throughput",
        "suffix:records/s",
        (Query(rate(of_jobs("records_total", ',outcome="written"'), _JOB), _JOB_NAME),),
        meaning="Records written.",
    ),
    Panel(
        "Latency of records",
        "s",
        (
            Query(quantile(0.5, "record_latency_seconds", _JOB), f"P50 {_JOB_NAME}"),
            Query(quantile(0.99, "record_latency_seconds", _JOB), f"P99 {_JOB_NAME}"),
        ),
        meaning="From admission to write.",
    ),
    Panel(
        "Failed",
        "suffix:records/s",
        (Query(rate(of_jobs("records_total", ',outcome="failed"'), _JOB), _JOB_NAME),),
    ),
    Panel(
        "State",
        "none",
        (Query(f"max by ({_JOB}, state) ({of_jobs('job_state')})", ""),),
        kind="table",
    ),
    Panel(
        "Done",
        "percentunit",
        (
            Query(
                f"sum by ({_JOB}) ({_READ}) / sum by ({_JOB}) ({of_jobs('job_expected_records')})",
                _JOB_NAME,
            ),
        ),
        kind="bargauge",
        meaning="Of the records that the source says it has.",
    ),
    Panel("Time to go", "s", (Query(of_jobs("job_eta_seconds"), _JOB_NAME),)),
)

_BREAKDOWN_PANELS = (
    Panel(
        "Where the latency goes",
        "s",
        (
            Query(
                f"{rate(_PARTS, 'part, stage')} / ignoring (part, stage) group_left () "
                f"{rate(_WRITTEN)}",
                "{{stage}} {{part}}",
            ),
            Query(
                f"clamp_min({rate(of_jobs('record_latency_seconds_sum'))} - {rate(_PARTS)}, 0) / "
                f"{rate(_WRITTEN)}",
                "not accounted for",
            ),
        ),
        is_stacked=True,
        width=_COLUMNS,
        meaning="Mean seconds per record that was written; the stack is the mean latency.",
    ),
)

_STAGE_PANELS = (
    Panel(
        "Records that enter",
        "suffix:records/s",
        (Query(rate(of_jobs("stage_records_in_total"), "stage"), "{{stage}}"),),
    ),
    Panel(
        "Records that leave",
        "suffix:records/s",
        (Query(rate(of_jobs("stage_records_out_total"), "stage"), "{{stage}}"),),
    ),
    Panel(
        "Time of a batch",
        "s",
        (
            Query(quantile(0.5, "stage_batch_seconds", "stage"), "P50 {{stage}}"),
            Query(quantile(0.99, "stage_batch_seconds", "stage"), "P99 {{stage}}"),
        ),
        meaning="How long the records of a batch are in the stage.",
    ),
    Panel(
        "Tasks in the stage",
        "suffix:tasks",
        (Query(rate(of_jobs("stage_batch_seconds_sum"), "stage"), "{{stage}}"),),
        is_stacked=True,
        meaning="Busy seconds per second.",
    ),
    Panel(
        "Tokens",
        "suffix:tok/s",
        (Query(rate(of_jobs("tokens_total"), "stage, kind"), "{{stage}} {{kind}}"),),
        is_stacked=True,
    ),
    Panel(
        "Cost",
        "suffix:per hour",
        (Query(f"3600 * {rate(of_jobs('cost_total'), _JOB)}", _JOB_NAME),),
        meaning="In the currency of the prices that were given.",
    ),
)

_SERVER_PANELS = (
    Panel(
        "Requests per second",
        "reqps",
        (
            Query(rate(of_jobs("requests_total"), "stage"), "{{stage}} sent"),
            Query(rate(of_jobs("retries_total"), "stage"), "{{stage}} again"),
            Query(rate(of_jobs("cache_hits_total"), "stage"), "{{stage}} from the cache"),
        ),
    ),
    Panel(
        "Requests under way",
        "suffix:requests",
        (
            Query(of_cluster("server_limit_requests"), "{{server}} limit"),
            Query(of_cluster("server_allotted_requests"), "{{server}} allotted"),
            Query(of_cluster("server_in_flight_requests"), "{{server}} in flight"),
        ),
    ),
    Panel(
        "What servers say of themselves",
        "suffix:requests",
        (
            Query(of_cluster("server_running_requests"), "{{server}} running"),
            Query(of_cluster("server_waiting_requests"), "{{server}} waiting"),
        ),
    ),
    Panel("Down", "s", (Query(of_cluster("server_down_seconds"), "{{server}}"),)),
    Panel(
        "Gates",
        "suffix:slots",
        (
            Query(of_cluster("gate_limit_slots"), "{{gate}} limit"),
            Query(of_cluster("gate_held_slots"), "{{gate}} held"),
        ),
        width=2 * _WIDTH,
    ),
)

_NODE_PANELS = (
    Panel(
        "Tasks in flight per thread",
        "none",
        (
            Query(
                f"{of_cluster('node_in_flight_tasks')} / {of_cluster('node_threads')}", "{{node}}"
            ),
        ),
        meaning="Above 1 the node is queueing.",
    ),
    Panel("Processor", "percentunit", (Query(of_cluster("node_cpu_ratio"), "{{node}}"),)),
    Panel("Memory", "percentunit", (Query(of_cluster("node_memory_ratio"), "{{node}}"),)),
    Panel(
        "Slowdown",
        "suffix:times",
        (Query(of_cluster("node_slowdown_ratio"), "{{node}}"),),
        meaning="How much longer tasks take than elsewhere.",
    ),
    Panel("Idle", "s", (Query(of_cluster("node_idle_seconds"), "{{node}}"),)),
    Panel(
        "Workers, and tasks without a thread",
        "none",
        (
            Query(f"sum ({of_cluster('node_workers')})", "workers"),
            Query(f"sum ({of_cluster('node_paused_workers')})", "workers that take no tasks"),
            Query(f"sum ({of_cluster('node_waiting_tasks')})", "tasks that wait for servers"),
        ),
    ),
)

_SCHEDULER_PANELS = (
    Panel("Tasks", "suffix:tasks", (Query(of_cluster("tasks"), "{{state}}"),), is_stacked=True),
    Panel(
        "Decisions",
        "suffix:tasks/s",
        (Query(rate(of_cluster("decisions_total"), "policy"), "{{policy}}"),),
    ),
    Panel(
        "Notices and errors",
        "none",
        (
            Query(of_cluster("notices"), "{{kind}}"),
            Query(
                f"increase({of_cluster('observer_errors_total')}[$__rate_interval])",
                "errors of observing",
            ),
        ),
    ),
)

ROWS = {
    "Jobs": _JOB_PANELS,
    "Breakdown": _BREAKDOWN_PANELS,
    "Stages": _STAGE_PANELS,
    "Model servers and gates": _SERVER_PANELS,
    "Nodes": _NODE_PANELS,
    "Scheduler": _SCHEDULER_PANELS,
}

_VARIABLES = {
    "scheduler": "label_values(sage_dask_observer_errors_total, instance)",
    "pipeline": f"label_values(sage_dask_job_state{{{_CLUSTER}}}, pipeline)",
    "job": f'label_values(sage_dask_job_state{{{_CLUSTER},pipeline=~"$pipeline"}}, job_id)',
}


def dashboard() -> dict[str, Any]:
    """Return the dashboard as Grafana imports it."""
    panels = [{"id": number, **panel} for number, panel in enumerate(_placed(), start=1)]
    return {
        "title": "sage_dask",
        "uid": "sage-dask",
        "description": "Jobs, stages, model servers and nodes of sage_dask",
        "tags": ["dask", "llm"],
        "schemaVersion": SCHEMA_VERSION,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "10s",
        "time": {"from": "now-30m", "to": "now"},
        "templating": {"list": [_datasource(), *_variables()]},
        "annotations": {"list": []},
        "panels": panels,
    }


def _placed() -> Iterator[dict[str, Any]]:
    """Yield rows and panels, each where it stands: from left to right, then downwards."""
    top = 0
    for title, panels in ROWS.items():
        place = {"x": 0, "y": top, "w": _COLUMNS, "h": 1}
        yield {"type": "row", "title": title, "collapsed": False, "panels": [], "gridPos": place}
        top, left = top + 1, 0
        for panel in panels:
            if left + panel.width > _COLUMNS:
                top, left = top + _HEIGHT, 0
            place = {"x": left, "y": top, "w": panel.width, "h": _HEIGHT}
            yield {**_panel(panel), "gridPos": place}
            left += panel.width
        top += _HEIGHT


def _panel(panel: Panel) -> dict[str, Any]:
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.meaning,
        "datasource": _DATASOURCE,
        "fieldConfig": {"defaults": _field(panel), "overrides": []},
        "options": _OPTIONS[panel.kind],
        "targets": [_target(panel, *numbered) for numbered in enumerate(panel.queries)],
    }


_OPTIONS: dict[str, dict[str, Any]] = {
    "timeseries": {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
        "tooltip": {"mode": "multi", "sort": "desc"},
    },
    "bargauge": {
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "orientation": "horizontal",
        "displayMode": "basic",
    },
    "table": {"showHeader": True},
}


def _field(panel: Panel) -> dict[str, Any]:
    """Return how the panel's values are drawn."""
    field: dict[str, Any] = {"unit": panel.unit, "min": 0}
    if panel.kind == "bargauge":
        field["max"] = 1
    if panel.kind == "timeseries":
        stacking = {"mode": "normal" if panel.is_stacked else "none", "group": "A"}
        opacity = 60 if panel.is_stacked else 0
        field["custom"] = {"stacking": stacking, "fillOpacity": opacity, "showPoints": "never"}
    return field


def _target(panel: Panel, place: int, query: Query) -> dict[str, Any]:
    """Return a query, of a range for a graph and of now for all else."""
    is_graph = panel.kind == "timeseries"
    return {
        "refId": chr(ord("A") + place),
        "datasource": _DATASOURCE,
        "expr": query.expression,
        "legendFormat": query.legend,
        "instant": not is_graph,
        "range": is_graph,
        "format": "table" if panel.kind == "table" else "time_series",
    }


def _datasource() -> dict[str, Any]:
    return {
        "name": "datasource",
        "label": "Prometheus",
        "type": "datasource",
        "query": "prometheus",
    }


def _variables() -> Iterator[dict[str, Any]]:
    for name, query in _VARIABLES.items():
        yield {
            "name": name,
            "type": "query",
            "datasource": _DATASOURCE,
            "query": {"query": query, "refId": name},
            "refresh": 2,
            "includeAll": True,
            "multi": True,
            "allValue": ".*",
            "current": {"text": ["All"], "value": ["$__all"]},
            "sort": 1,
        }


def text() -> str:
    """Return the dashboard as the file has it."""
    return json.dumps(dashboard(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    PATH.write_text(text(), encoding="utf-8")
