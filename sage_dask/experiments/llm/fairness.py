"""How evenly jobs share one server: on one cluster by its gate, on two by what each one sees."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from sage_dask.cluster import LocalNodes
from sage_dask.cluster.timed_server import TimedServerProcess
from sage_dask.experiments.llm.alone import Alone
from sage_dask.experiments.llm.bench import Bench
from sage_dask.experiments.llm.load import Load, Tally
from sage_dask.experiments.llm.result import Result
from sage_dask.experiments.table import Row

SEATS = 64
LATENCY_S, JITTER_S = 0.4, 0.1


def jain(values: Sequence[float]) -> float:
    """Return Jain's index of fairness: 1.0 where all are equal, 1/n where one has everything."""
    squares = sum(value**2 for value in values)
    return sum(values) ** 2 / (len(values) * squares) if squares else 0.0


def fairness(bench: Bench) -> Iterator[Row]:
    """Have two jobs ask one server at the same time."""
    with LocalNodes(2, threads=2, dashboard=None) as nodes:
        for weights in ((1.0, 1.0), (2.0, 1.0)):
            with _server() as server:
                results = _together(nodes, _load(bench, server), weights)
            told = ":".join(f"{weight:g}" for weight in weights)
            yield _row(bench, f"2 jobs of weights {told} on one gate", results, weights)
    with _server() as server:
        runs = [Alone(_load(bench, server)) for _ in range(2)]
        results = [run.result() for run in runs]
    yield _row(bench, "2 processes that know nothing of each other", results, (1.0, 1.0))


def _server() -> TimedServerProcess:
    return TimedServerProcess(seats=SEATS, latency_s=LATENCY_S, jitter_s=JITTER_S)


def _load(bench: Bench, server: TimedServerProcess) -> Load:
    return Load(endpoints=[server.endpoint], seconds=bench.scale.seconds)


def _together(nodes: LocalNodes, load: Load, weights: Sequence[float]) -> list[Result]:
    """Run one job per weight at the same time."""

    def run(number: int) -> Result:
        tally = Tally()
        pipeline = load.pipeline(tally, f"job-{number}")
        report = pipeline.run(nodes, weight=weights[number], ordered=False)
        return Result.of(report, rows=tally.rows)

    with ThreadPoolExecutor(len(weights)) as pool:
        return list(pool.map(run, range(len(weights))))


def _row(bench: Bench, what: str, results: Sequence[Result], weights: Sequence[float]) -> Row:
    from_s, until_s = shared_time(results, bench.scale.seconds)
    rates = [result.rate(from_s, until_s) for result in results]
    index = jain([rate / weight for rate, weight in zip(rates, weights, strict=True)])
    for number, result in enumerate(results):
        bench.note_run("fairness", f"{what}, job {number}", result, rate=rates[number])
    per_weight = " / weight" if len(set(weights)) > 1 else ""
    return Row(
        f"timed server, {what}",
        " and ".join(f"{rate:.1f}" for rate in rates) + " records/s",
        f"{SEATS / LATENCY_S:.0f} records/s ideal together",
        index,
        f">= 0.95 (Jain's index{per_weight})",
    )


def shared_time(results: Sequence[Result], seconds: float) -> tuple[float, float]:
    """Return from when until when all ran, a third of the time for finding the limit left out."""
    first_s = max(result.rows[0][0] for result in results)
    last_s = min(min(result.rows[0][0] + seconds, result.rows[-1][0]) for result in results)
    return first_s + (last_s - first_s) / 3, last_s
