"""Whether the limit of a server is found, on nodes and by its own gauges."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import median

from sage_dask.cluster import LocalNodes
from sage_dask.cluster.timed_server import TimedOptions, TimedServerProcess
from sage_dask.experiments.llm.bench import Bench
from sage_dask.experiments.llm.load import Load, Tally
from sage_dask.experiments.llm.result import Result
from sage_dask.experiments.llm.watch import Look, Looks, Watch, between, growth
from sage_dask.experiments.table import Row

NUM_NODES, THREADS = 2, 2

_KV_SEQUENCES = 45
_KV_PROMPT_TOKENS, _KV_ANSWER_TOKENS = 280, 16
# A sequence's last block is mostly not full.
_KV_TOKENS_EACH = 304


@dataclass(frozen=True, slots=True)
class Case:
    """A server, and what its limit should be."""

    name: str
    options: TimedOptions
    seats: int
    longer: float = 1.0
    """As many times longer it is watched: a limit is searched for in round trips."""
    prompt_tokens: int = 0


def _seats(number: int, latency_s: float, longer: float = 1.0) -> Case:
    options = TimedOptions(seats=number, latency_s=latency_s, jitter_s=latency_s / 4)
    return Case(f"{number} seats, {latency_s:g} s", options, number, longer)


_KV_OPTIONS = TimedOptions(
    seats=256,
    step_s=0.02,
    step_per_sequence_s=0.0005,
    prefill_per_token_s=0.00002,
    kv_tokens=_KV_SEQUENCES * _KV_TOKENS_EACH,
    prefix_blocks=0,
)

CASES = (
    _seats(4, 0.4),
    _seats(16, 0.4),
    _seats(64, 0.4),
    # Longer answers, as two cores can send no more than some 200 requests a second.
    _seats(256, 2.0, 2.0),
    Case(
        f"KV cache for {_KV_SEQUENCES} of 256 seats",
        _KV_OPTIONS,
        _KV_SEQUENCES,
        prompt_tokens=_KV_PROMPT_TOKENS,
    ),
)


@dataclass(frozen=True, slots=True)
class Found:
    """A limit that was found, and what it does to the server, in the last third of the time."""

    limit: float
    waiting: float
    """In the server's queue, on average."""
    seats_taken: float
    """Of those that there are, on average."""

    @classmethod
    def of(cls, looks: Looks, from_s: float, until_s: float, seats: int) -> Found:
        """Return averages of a time; the limit is the median of the looks."""
        return cls(
            median(look["limit"] for look in between(looks, from_s, until_s)),
            growth(looks, "waiting_s", from_s, until_s),
            growth(looks, "running_s", from_s, until_s) / seats,
        )


def gates(bench: Bench) -> Iterator[Row]:
    """Watch the limit on all servers."""
    with LocalNodes(NUM_NODES, threads=THREADS, dashboard=None) as nodes:
        for case in CASES:
            yield _row(bench, nodes, case)


def _row(bench: Bench, nodes: LocalNodes, case: Case) -> Row:
    seconds = bench.scale.seconds * case.longer
    with TimedServerProcess(case.options) as server:
        load = Load(
            endpoints=[server.endpoint],
            seconds=seconds,
            max_tokens=_KV_ANSWER_TOKENS,
            prompt_chars=4 * case.prompt_tokens,
        )
        began_s = time.monotonic()
        with Watch(looking(nodes, server)) as watch:
            result = Result.of(load.pipeline(Tally()).run(nodes, ordered=False))
    until_s = began_s + seconds
    found = Found.of(watch.looks, until_s - seconds / 3, until_s, case.seats)
    bench.note_run("gates", case.name, result, found=found, looks=watch.looks, began_s=began_s)
    return Row(
        f"timed server, {case.name}",
        f"limit {found.limit:.0f}, {found.waiting:.1f} waiting",
        f"{found.seats_taken:.1%} of {case.seats} taken",
        found.limit / case.seats,
        f"0.9 to 1.1, <= {0.1 * case.seats + 4:.1f} waiting",
    )


def looking(nodes: LocalNodes, server: TimedServerProcess) -> Callable[[], Look]:
    """Return what looks at the limit that nodes go by, and at the server itself."""
    control = nodes.scheduling

    def look() -> Look:
        # The server first: it may be down, and then there is no look.
        own = server.statistics()
        known = control.statistics().servers[server.endpoint]
        return {
            "limit": known.limit,
            "in_flight": known.in_flight,
            "allotted": known.allotted,
            **{name: own[name] for name in ("running_s", "waiting_s", "running", "waiting")},
            "answered": own["answered"],
        }

    return look
