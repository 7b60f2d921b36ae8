"""Gates and model servers: what is held of what there is."""

from __future__ import annotations

from sage_dask.dashboard.page import words
from sage_dask.dashboard.page.html import Column, Row, bar, chip, clipped, panel, table
from sage_dask.dashboard.snapshot import Snapshot
from sage_dask.markup import Child, Html, element, joined
from sage_dask.scheduling.gate import GateStatistics
from sage_dask.scheduling.servers import ServerStatistics

MOST_ROWS = 24

_GATES = (Column("Gate"), Column("Slots held"), Column("Held", True), Column("Limit", True))
_SERVERS = (
    Column("Model server"),
    Column("State"),
    Column("In flight", meaning="requests of ours under way, of the limit"),
    Column("Limit", True, "requests under way at most"),
    Column("Allotted", True, "slots that workers have"),
    Column("Its queue", True, "requests of anyone that wait there"),
    Column("Its batch", True, "requests of anyone that it works on"),
)


def render(snapshot: Snapshot) -> Html:
    """Return the tables of gates and of model servers, those that there are."""
    scheduling = snapshot.scheduling
    if scheduling is None:
        return panel("Gates", element("p", "Dask places all tasks: no gates.", class_="quiet"))
    gates = [_gate(name, gate) for name, gate in sorted(scheduling.gates.items())]
    servers = [_server(name, server) for name, server in sorted(scheduling.servers.items())]
    tables = [
        table(columns, rows[:MOST_ROWS], len(rows) - MOST_ROWS, narrow=narrow)
        for columns, rows, narrow in ((_SERVERS, servers, "cards"), (_GATES, gates, "table"))
        if rows
    ]
    none = element("p", "No stage holds a gate or asks a model server.", class_="quiet")
    return panel("Gates and model servers", joined(tables) if tables else none)


def _gate(name: str, gate: GateStatistics) -> Row:
    share = gate.held / gate.limit if gate.limit else float(gate.limit == 0)
    held: Child = _filled(share) if gate.limit is not None else ""
    limit = "none" if gate.limit is None else words.amount(gate.limit)
    return Row([clipped(name, 80), held, words.amount(gate.held), limit])


def _server(endpoint: str, server: ServerStatistics) -> Row:
    state = "up" if server.down_s is None else f"down for {words.lasting(server.down_s)}"
    share = server.in_flight / server.limit if server.limit else 0.0
    how = "" if server.is_adaptive else " fixed"
    cells: list[Child] = [
        clipped(endpoint, 80),
        chip(state, "good" if server.down_s is None else "bad"),
        element("span", bar(share), element("small", f"{server.in_flight:,}"), class_="beside"),
        f"{server.limit:,}{how}",
        f"{server.allotted:,}",
        words.amount(server.waiting),
        words.amount(server.running),
    ]
    return Row(cells, clipped(server.reason))


def _filled(share: float) -> Html:
    return bar(share, kind="warn" if share >= 1 else "")
