"""The line at the top: how the whole cluster stands."""

from __future__ import annotations

from collections.abc import Iterator

from sage_dask.dashboard.board import PAUSED
from sage_dask.dashboard.page import words
from sage_dask.dashboard.page.html import clipped
from sage_dask.dashboard.snapshot import Snapshot
from sage_dask.markup import Html, element


def render(snapshot: Snapshot) -> Html:
    """Return jobs, records per second, policy, nodes and queue."""
    return element("div", [_figure(*said) for said in _figures(snapshot)], class_="figures")


def _figure(name: str, value: str, of: str) -> Html:
    number = element("b", value, element("small", f" {of}") if of else "")
    return element("div", element("span", name), number, class_="figure")


def _figures(snapshot: Snapshot) -> Iterator[tuple[str, str, str]]:
    going = [job for job in snapshot.jobs if not job.is_over]
    paused = sum(job.state == PAUSED for job in going)
    yield "Jobs running", f"{len(going) - paused:,}", f"{paused:,} paused" if paused else ""
    yield "Throughput", words.rate(sum(job.rate for job in going)), "records/s"
    scheduling = snapshot.scheduling
    if scheduling is None:
        yield "Policy", "dask", "places all tasks"
        yield "Nodes", f"{len(snapshot.nodes):,}", ""
        return
    yield "Policy", clipped(scheduling.policy, 40), ""
    busy = sum(node.in_flight > 0 for node in scheduling.nodes.values())
    yield "Nodes busy", f"{busy:,}", f"of {len(snapshot.nodes):,}"
    yield "Tasks running", f"{scheduling.num_running:,}", ""
    yield "Tasks queued", f"{scheduling.num_queued:,}", ""
