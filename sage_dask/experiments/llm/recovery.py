"""How soon a server is as busy as before, once it was slow or gone for ten seconds."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

from sage_dask.cluster import LocalNodes
from sage_dask.cluster.timed_server import TimedServerProcess
from sage_dask.experiments.llm.bench import Bench
from sage_dask.experiments.llm.gates import looking
from sage_dask.experiments.llm.load import Load, Tally
from sage_dask.experiments.llm.result import Result
from sage_dask.experiments.llm.watch import Looks, Watch, growth
from sage_dask.experiments.table import Row

SEATS = 64
LATENCY_S, JITTER_S = 0.4, 0.1
DISTURBED_S = 10.0

# Long enough for answers of 0.4 s to come evenly, short beside what is allowed.
_WINDOW_S = 2.0
_SHARE = 0.9


def recovery(bench: Bench) -> Iterator[Row]:
    """Disturb a server in two ways."""
    with LocalNodes(2, threads=2, dashboard=None) as nodes:
        yield _row(bench, nodes, "4 x slower", lambda s: s.brown_out(4, DISTURBED_S), 15)
        yield _row(bench, nodes, "no server", lambda s: s.outage(DISTURBED_S), 40)


def _row(
    bench: Bench,
    nodes: LocalNodes,
    what: str,
    disturb: Callable[[TimedServerProcess], None],
    wanted_s: float,
) -> Row:
    before_s = bench.scale.seconds / 2
    began: list[float] = []
    with TimedServerProcess(seats=SEATS, latency_s=LATENCY_S, jitter_s=JITTER_S) as server:

        def strike() -> None:
            began.append(time.monotonic())
            disturb(server)

        seconds = before_s + DISTURBED_S + wanted_s + _WINDOW_S
        load = Load(endpoints=[server.endpoint], seconds=seconds)
        timer = threading.Timer(before_s, strike)
        timer.start()
        try:
            with Watch(looking(nodes, server)) as watch:
                result = Result.of(load.pipeline(Tally()).run(nodes, ordered=False))
        finally:
            timer.cancel()
            timer.join()
    looks = watch.looks
    took_s = recovery_s(looks, began[0], began[0] + DISTURBED_S)
    name = f"{what} for {DISTURBED_S:.0f} s"
    bench.note_run("recovery", name, result, seconds=took_s, looks=looks, began_s=began[0])
    bench.require(result.failed == 0, f"recovery, {name}: {result.failed} records failed")
    return Row(
        f"timed server, {SEATS} seats, {name}",
        f"as busy as before after {took_s:.1f} s",
        f"{result.failed} failed, {result.retries} sent again",
        took_s / wanted_s,
        f"<= {wanted_s:.0f} s, 0 failed",
    )


def recovery_s(looks: Looks, began_s: float, ended_s: float) -> float:
    """Return the seconds from the end of a disturbance until answers come as before.

    Args:
        looks: With the count ``answered``.
        began_s: When the disturbance began; what was usual is taken from the time before.
        ended_s: When it was over.

    Returns:
        Infinity where they never did while it was looked.
    """
    first_s, last_s = looks[0][0], looks[-1][0]
    usual = growth(looks, "answered", max(first_s, began_s - DISTURBED_S), began_s)
    for at_s, _ in ((ended_s, None), *looks):
        if at_s < ended_s or at_s + _WINDOW_S > last_s:
            continue
        if growth(looks, "answered", at_s, at_s + _WINDOW_S) >= _SHARE * usual:
            return at_s - ended_s
    return float("inf")
