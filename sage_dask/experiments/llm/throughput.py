"""How near a run comes to what its server could do at best, and to a plain client's.

All ways run in turn, each on a fresh timed server of its own, so that none knows
a limit which another has found.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

from sage_dask.cluster import LocalNodes
from sage_dask.cluster.timed_server import TimedServerProcess
from sage_dask.experiments.llm.alone import Alone
from sage_dask.experiments.llm.bench import Bench
from sage_dask.experiments.llm.costs import spent_s
from sage_dask.experiments.llm.load import Load, Tally
from sage_dask.experiments.llm.result import Result
from sage_dask.experiments.table import Row

SEATS = 64
LATENCY_S, JITTER_S = 0.4, 0.1
NUM_NODES, THREADS = 4, 2

PLAIN = f"asyncio + aiohttp, {SEATS} in flight"


@dataclass(frozen=True, slots=True)
class _Way:
    """One way to send the requests, and what is wanted of it."""

    run: Callable[[Load, int | None], Result]
    """Takes the server's process, too, whose time is not ours."""
    limit: int | None
    most_of_ideal: float


def throughput(bench: Bench) -> Iterator[Row]:
    """Measure all ways in turn, several times."""
    with LocalNodes(NUM_NODES, threads=THREADS, dashboard=None) as nodes:
        on_nodes = f"{NUM_NODES} nodes of {THREADS} threads"
        ways = {
            "in process, limit known": _Way(_in_process(), SEATS, 1.02),
            "in process, limit found": _Way(_in_process(), None, 1.05),
            f"{on_nodes}, limit known": _Way(_on(nodes), SEATS, 1.02),
            f"{on_nodes}, limit found": _Way(_on(nodes), None, 1.05),
        }
        _warm_up(nodes)
        rounds = [_round(bench, ways, number) for number in range(bench.scale.rounds)]
    yield from _rows(bench, ways, rounds)


def _in_process(in_flight: int | None = None) -> Callable[[Load, int | None], Result]:
    """Return what runs a load in a process of its own; with a number in flight, plainly."""
    return lambda load, _server: Alone(load, in_flight).result()


def _on(nodes: LocalNodes) -> Callable[[Load, int | None], Result]:
    """Return what runs a load on nodes; this process is their driver and has their scheduler."""

    def run(load: Load, server: int | None) -> Result:
        tally = Tally()
        before_s = spent_s([server])
        report = load.pipeline(tally).run(nodes)
        return Result.of(report, spent_s([server]) - before_s, tally.rows)

    return run


def _warm_up(nodes: LocalNodes) -> None:
    """Have the nodes import what they need."""
    with TimedServerProcess(seats=SEATS, latency_s=0.01) as server:
        Load(endpoints=[server.endpoint], requests=200).pipeline(Tally()).run(nodes)


def _round(bench: Bench, ways: Mapping[str, _Way], number: int) -> Mapping[str, Result]:
    """Run all ways once."""
    all_ways = {PLAIN: _Way(_in_process(in_flight=SEATS), SEATS, 0.0), **ways}
    found = {}
    for name, way in all_ways.items():
        with TimedServerProcess(seats=SEATS, latency_s=LATENCY_S, jitter_s=JITTER_S) as server:
            load = Load(endpoints=[server.endpoint], requests=bench.scale.requests, limit=way.limit)
            result = found[name] = way.run(load, server.pid)
            facts = _facts(result, server.statistics())
        bench.note_run("throughput", name, result, round=number, seed=0, server=facts)
    return found


def _facts(result: Result, statistics: Mapping[str, Any]) -> Mapping[str, float]:
    """Return the server's own counts, over the time of the run and not that of its life."""
    return {
        "seats_taken": statistics["running_s"] / (SEATS * result.makespan_s),
        "mean_waiting": statistics["waiting_s"] / result.makespan_s,
        "received": statistics["received"],
        "answered": statistics["answered"],
    }


def _rows(
    bench: Bench, ways: Mapping[str, _Way], rounds: list[Mapping[str, Result]]
) -> Iterator[Row]:
    requests = bench.scale.requests
    ideal_s = requests * LATENCY_S / SEATS
    wall_s = {name: median(each[name].makespan_s for each in rounds) for name in rounds[0]}
    what = f"timed server, {SEATS} seats, {requests:,} requests"
    beside = f"{ideal_s:.2f} s ideal"
    yield Row(f"{what}: plain", f"{wall_s[PLAIN]:.2f} s", beside, wall_s[PLAIN] / ideal_s, "")
    for name, way in ways.items():
        ratio = wall_s[name] / ideal_s
        yield Row(name, f"{wall_s[name]:.2f} s", beside, ratio, f"<= {way.most_of_ideal} x ideal")
    for name in ways:
        # Each by its own round's plain run: the machine's speed drifts.
        ratio = median(each[PLAIN].makespan_s / each[name].makespan_s for each in rounds)
        ours = median(each[name].throughput for each in rounds)
        plain = median(each[PLAIN].throughput for each in rounds)
        said = f"{ours:.1f} requests/s"
        yield Row(name, said, f"{plain:.1f} {PLAIN}", ratio, ">= 0.97 of plain")
    plain_ms = median(each[PLAIN].cpu_ms for each in rounds)
    for name in ways:
        cpu_ms = median(each[name].cpu_ms for each in rounds)
        said = f"{cpu_ms:.2f} ms CPU/request"
        yield Row(name, said, f"{plain_ms:.2f} ms plain", cpu_ms / plain_ms, "<= 2 ms")
