"""Events of a small job, from which reports are counted."""

from __future__ import annotations

from sage_dask.breakdown import RESIDUE, Breakdown, Part
from sage_dask.endpoint.call_times import CallTimes
from sage_dask.endpoint.usage import Usage
from sage_dask.events import BatchCommitted, JobFinished, JobStarted
from sage_dask.record import StageTiming, TaskTiming

START = JobStarted(
    pipeline="rag",
    job="1234abcd",
    runner="on 3 Dask nodes, 3 threads",
    nodes=["a", "b", "c"],
    num_threads=3,
    startup_s={"cluster": 1.5},
    stages=["embed", "generate"],
    started_at="2026-01-01T00:00:00+00:00",
)


def committed(batch, node, written, *, failed=0, filtered=0, expanded=0, busy_s=1.0, elapsed_s=4.0):
    """Return a commit of one batch whose single task ran on a node, by a version without parts."""
    timing = StageTiming("embed", busy_s, written + failed, written)
    return BatchCommitted(
        batch=batch,
        num_read=written + failed + filtered - expanded,
        num_written=written,
        num_failed=failed,
        num_filtered=filtered,
        num_expanded=expanded,
        latency_s=0.5 * (batch + 1),
        elapsed_s=elapsed_s,
        tasks=[TaskTiming("embed", node, busy_s, 0.0, (timing,))],
        failures={"embed: ValueError": failed} if failed else {},
    )


EVENTS = [
    START,
    committed(0, "a", 3, failed=1, busy_s=1.0, elapsed_s=2.0),
    committed(1, "b", 3, filtered=2, expanded=1, busy_s=3.0, elapsed_s=4.0),
    JobFinished("done"),
]


def asked(batch, stage, usage, *, elapsed_s=4.0):
    """Return a commit of one batch whose only stage sent requests."""
    timing = StageTiming(stage, 1.0, 2, 2, usage)
    task = TaskTiming(stage, "a", 1.0, 0.0, (timing,))
    return BatchCommitted(batch, 2, 2, 0, 0, 0, 0.5, elapsed_s, [task], {})


def measured(batch, *, gate_s=0.5, elapsed_s=4.0, written=2, failed=0):
    """Return a commit of two records whose latency of 2 s and ``gate_s`` is told in all its parts.

    Of it 0.1 s are admission, 0.4 s embedding, 1.2 s generating, 0.2 s transfer, 0.1 s writing.
    """
    calls = CallTimes(2, 0.2, 2.0, 0.0, 2, 2.0, 0.2, 0.4, 1.2)
    usage = Usage(requests=2, prompt_tokens=20, completion_tokens=8, cost=0.5)
    stages = (
        StageTiming("embed", 0.4, 2, 2),
        StageTiming("generate", 1.2, 2, 2, usage, calls),
    )
    task = TaskTiming("embed+generate", "a", 1.6, 0.0, stages, {"gate": gate_s})
    spent = {"admission": 0.1, "away": 1.8 + gate_s, "commit": 0.1}
    failed_ids = {f"q-{batch}-{number}": "embed: ValueError: <b>&" for number in range(failed)}
    return BatchCommitted(
        batch,
        written + failed,
        written,
        failed,
        0,
        0,
        2.0 + gate_s,
        elapsed_s,
        [task],
        {"embed: ValueError": failed} if failed else {},
        spent,
        failed_ids,
    )


MEASURED = [START, measured(0, elapsed_s=2.5), measured(1, elapsed_s=4.0), JobFinished("done")]


def broken_down(*parts, residue_s=0.0):
    """Return a breakdown of ten records into stages and parts, given as names and seconds.

    What stands behind the seconds are the parts of a stage.
    """
    made = [
        Part(name, seconds, "", is_stage=bool(inner), parts=tuple(Part(*p, "") for p in inner))
        for name, seconds, *inner in parts
    ]
    total = sum(part.seconds for part in made) + residue_s
    return Breakdown(10, total, (*made, Part(RESIDUE, residue_s, "")))
