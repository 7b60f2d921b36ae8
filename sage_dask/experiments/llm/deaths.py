"""What becomes of records when a whole process dies: the server's, or a node's."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from sage_dask.cluster import LocalNodes
from sage_dask.cluster.timed_server import TimedServer
from sage_dask.experiments.llm.bench import Bench
from sage_dask.experiments.llm.load import Load
from sage_dask.experiments.llm.tries import BEHAVIOUR, Counts, check, row, run, server
from sage_dask.experiments.table import Row

_AWAY_S = 3.0
_LOOK_S = 0.05


def deaths(bench: Bench) -> Iterator[Row]:
    """Have a server die by order, then kill one, then kill a node."""
    yield _dying_row(bench)
    yield _killed_row(bench)
    yield _node_row(bench)


def _dying_row(bench: Bench) -> Row:
    """Have a server die that comes back with its books, so that all is counted."""
    name = f"'die', back after {_AWAY_S:g} s"
    middle = bench.scale.records // 2
    script = {"faults": [{"fault": "die", "numbers": [middle]}]}
    # In this process, where its ledger outlives its death.
    with TimedServer(**BEHAVIOUR, script=script) as timed:

        def is_dead() -> bool:
            return int(timed.statistics()["received"]) >= middle

        with _after(is_dead, lambda: _wait_and(timed.recover)):
            result, wrong = run(Load(endpoints=[timed.endpoint], requests=bench.scale.records))
        counts = Counts.of(timed.ledger())
    check(bench, name, result, counts, wrong, is_blamed=False)
    bench.require(result.failed == 0, f"faults, {name}: {result.failed} records failed")
    return row(name, result, counts, "0 lost, 0 failed, 0 twice")


def _killed_row(bench: Bench) -> Row:
    """Kill a server, and start it again; its books begin anew."""
    name = f"server killed, back after {_AWAY_S:g} s"
    with server() as timed:
        answered: list[int] = []

        def is_half_done() -> bool:
            answered[:] = [int(timed.statistics()["answered"])]
            return answered[0] >= bench.scale.records // 2

        def strike() -> None:
            timed.kill()
            _wait_and(timed.restart)

        with _after(is_half_done, strike):
            result, wrong = run(Load(endpoints=[timed.endpoint], requests=bench.scale.records))
        counts = Counts.of(timed.ledger())
    bench.note_run("faults", name, result, counts=counts, wrong=wrong, answered_before=answered)
    bench.require(result.failed == 0, f"faults, {name}: {result.failed} records failed")
    bench.require(counts.answered_twice == 0, f"faults, {name}: answered twice")
    most = result.read - answered[0]
    # What was counted last before the kill was answered then, and is not asked for again.
    bench.require(counts.answered <= most, f"faults, {name}: {counts.answered} of {most} after it")
    return row(name, result, counts, "0 lost, 0 failed, 0 twice (counted from then)")


def _node_row(bench: Bench) -> Row:
    """Kill a node; what it had under way is asked again by another, and that is counted."""
    name = "1 of 3 nodes killed"
    with LocalNodes(3, threads=2, dashboard=None) as nodes, server() as timed:

        def is_half_done() -> bool:
            return int(timed.statistics()["answered"]) >= bench.scale.records // 2

        under_way: list[int] = []

        def strike() -> None:
            known = nodes.scheduling.statistics().nodes[nodes.names[0]]
            under_way.append(known.in_flight)
            nodes.remove(nodes.names[0], kill=True)

        with _after(is_half_done, strike):
            load = Load(endpoints=[timed.endpoint], requests=bench.scale.records)
            result, wrong = run(load, nodes)
        counts = Counts.of(timed.ledger())
    again = counts.answered - result.written
    bench.note_run("faults", name, result, counts=counts, wrong=wrong, batches_lost=under_way)
    bench.require(bool(under_way), f"faults, {name}: the run was over before the kill")
    bench.require(result.failed == 0, f"faults, {name}: {result.failed} records failed")
    bench.require(counts.answered_twice == 0, f"faults, {name}: a call was answered twice")
    return row(
        f"{name} with {sum(under_way)} batches",
        result,
        counts,
        f"0 lost, 0 failed; {again} of its records answered once more",
    )


def _wait_and(act: Callable[[], Any]) -> None:
    time.sleep(_AWAY_S)
    act()


@contextmanager
def _after(is_time: Callable[[], bool], act: Callable[[], Any]) -> Iterator[None]:
    """Do something once it is time, while the body runs; not at all if that is over before."""
    is_over = threading.Event()

    def wait() -> None:
        while not is_over.wait(_LOOK_S):
            # A server that is down does not say.
            with suppress(OSError):
                if is_time():
                    act()
                    return

    thread = threading.Thread(target=wait, name="strike", daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()
