"""What the journal costs: commits, runs that keep one, and the way back into a long run."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from sage_dask.cluster.timed_server import TimedServer
from sage_dask.experiments.memory import own_peak_mib
from sage_dask.experiments.table import Row, in_turn
from sage_dask.experiments.work import Discard, Numbers, first, second, third
from sage_dask.journal import rows
from sage_dask.journal.codec import digest
from sage_dask.journal.entries import Entry, Group
from sage_dask.journal.journal import Journal
from sage_dask.operators import FromIterable, Generate, WriteJsonl
from sage_dask.pipeline import Pipeline
from sage_dask.record import Record

NUM_COMMITTED = 10_000
NUM_CHEAP = 20_000
NUM_CALLS = 640
NUM_FINISHED = 1_000_000
CALL_S = 0.4

# As many as the writer commits at once, so that its baseline syncs as often.
_GROUP = 64


def journal() -> Iterator[Row]:
    """Measure commits, whole runs with a journal and without, and resuming."""
    with TemporaryDirectory() as folder:
        yield _commits(Path(folder))
    with TemporaryDirectory() as folder:
        yield _cheap_run(Path(folder))
    with TemporaryDirectory() as folder:
        yield _run_with_calls(Path(folder))
    with TemporaryDirectory() as folder:
        yield from _resume(Path(folder))


def _commits(folder: Path) -> Row:
    """Commit as a run does, beside plain appends that are synced as often."""
    entries = [_entry(seq, {"x": seq, "answer": "word " * 60}) for seq in range(NUM_COMMITTED)]
    groups = [entries[start : start + _GROUP] for start in range(0, len(entries), _GROUP)]
    ours, plain = in_turn(
        5,
        _each_elsewhere(folder, partial(_commit, groups)),
        _each_elsewhere(folder, partial(_append, groups)),
    )
    return Row(
        f"{NUM_COMMITTED:,} records committed by {_GROUP}",
        f"{NUM_COMMITTED / ours:,.0f} records/s",
        f"{NUM_COMMITTED / plain:,.0f} records/s appended and synced",
        ours / plain,
        "",
    )


def _entry(seq: int, record: Record) -> Entry:
    record_id = str(seq)
    return rows.pack(rows.Row(seq, record_id, digest(record), [(record_id, record)]))


def _each_elsewhere(folder: Path, measured: Callable[[Path], float]) -> Callable[[], float]:
    """Return a measurement that gets a folder of its own every time."""

    def measure() -> float:
        with TemporaryDirectory(dir=folder) as own:
            return measured(Path(own))

    return measure


def _commit(groups: list[list[Entry]], folder: Path) -> float:
    run = Journal(folder)
    started = time.perf_counter()
    for group in groups:
        run.put(Group(group), lambda _: None)
    run.flush()
    seconds = time.perf_counter() - started
    run.close()
    return seconds


def _append(groups: list[list[Entry]], folder: Path) -> float:
    started = time.perf_counter()
    with (folder / "appended").open("wb", buffering=0) as file:
        for group in groups:
            file.write(b"".join(entry.body for entry in group))
            os.fdatasync(file.fileno())
    return time.perf_counter() - started


def _cheap_run(folder: Path) -> Row:
    """Run what costs nothing, so that all that is seen is the journal."""

    def run(own: Path, *, durable: bool) -> float:
        pipeline = Pipeline("cheap").source(Numbers(NUM_CHEAP)).map(first).map(second).map(third)
        started = time.perf_counter()
        pipeline.sink(WriteJsonl(own / "out.jsonl")).run(run_dir=own / "run", durable=durable)
        return time.perf_counter() - started

    ours, plain = in_turn(
        5,
        _each_elsewhere(folder, partial(run, durable=True)),
        _each_elsewhere(folder, partial(run, durable=False)),
    )
    return Row(
        f"3 no-op maps, {NUM_CHEAP:,} records, with a journal",
        f"{1e6 * ours / NUM_CHEAP:.1f} µs/record",
        f"{1e6 * plain / NUM_CHEAP:.1f} µs without one",
        ours / plain,
        "",
    )


def _run_with_calls(folder: Path) -> Row:
    """Run what asks a model server and goes on, where each answer is kept on the way."""
    with TimedServer(seats=64, latency_s=CALL_S) as server:
        ask = Generate(server.endpoint, "timed", max_tokens=64, cache=False)
        records = [{"prompt": f"question {number}"} for number in range(NUM_CALLS)]

        def run(own: Path, *, durable: bool) -> float:
            asking = Pipeline("asking").source(FromIterable(records)).stage("ask", ask)
            pipeline = asking.map(first).sink(WriteJsonl(own / "out.jsonl"))
            gates = {server.endpoint: 64}
            started = time.perf_counter()
            pipeline.run(run_dir=own / "run", durable=durable, gates=gates)
            return time.perf_counter() - started

        ours, plain = in_turn(
            3,
            _each_elsewhere(folder, partial(run, durable=True)),
            _each_elsewhere(folder, partial(run, durable=False)),
        )
    return Row(
        f"{NUM_CALLS} calls of {CALL_S} s, 64 at once, with a journal",
        f"{NUM_CALLS / ours:.0f} records/s",
        f"{NUM_CALLS / plain:.0f} records/s without one",
        ours / plain,
        "",
    )


def _resume(folder: Path) -> Iterator[Row]:
    """Go on with runs of which all but one record is done, each in a process of its own."""
    small_s, small_mib = _resumed(folder / "small", NUM_FINISHED // 10)
    large_s, large_mib = _resumed(folder / "large", NUM_FINISHED)
    yield Row(
        f"resume behind {NUM_FINISHED:,} records: to the first new one",
        f"{large_s:.1f} s",
        f"{small_s:.2f} s behind {NUM_FINISHED // 10:,}",
        large_s / small_s,
        "",
    )
    yield Row(
        "the same, peak memory",
        f"{large_mib:.1f} MiB",
        f"{small_mib:.1f} MiB",
        large_mib / small_mib,
        "",
    )


def _resumed(folder: Path, number: int) -> tuple[float, float]:
    """Return the seconds to the first new record, and the peak memory until then."""
    _finish(folder, number)
    command = [sys.executable, "-m", __name__, str(folder), str(number)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    seconds, mib = map(float, done.stdout.split())
    return seconds, mib


def _finish(folder: Path, number: int) -> None:
    """Write the journal of a run that has done its first records."""
    run = Journal(folder)
    chunk = 10_000
    for start in range(0, number, chunk):
        places = range(start, min(start + chunk, number))
        run.store.commit(Group([_entry(seq, {"x": seq}) for seq in places]))
    run.close()


def _go_on(folder: Path, number: int) -> None:
    """Resume, print what it took to come to the first new record, and leave it at that."""
    started = time.perf_counter()

    def seen(_: Record) -> Record:
        print(time.perf_counter() - started, own_peak_mib(), flush=True)
        os._exit(0)

    Pipeline("resumed").source(Numbers(number + 1)).map(seen).sink(Discard()).run(run_dir=folder)


if __name__ == "__main__":
    _go_on(Path(sys.argv[1]), int(sys.argv[2]))
