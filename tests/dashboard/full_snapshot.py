"""A fake monitor, whose snapshots have something of everything that can be in one."""

from __future__ import annotations

import random

from sage_dask import spent
from sage_dask.dashboard.board import Board
from sage_dask.dashboard.snapshot import NodeLoad, Snapshot
from sage_dask.endpoint.call_times import CallTimes
from sage_dask.endpoint.usage import Usage
from sage_dask.events import BatchCommitted, JobFinished, JobStarted
from sage_dask.record import StageTiming, TaskTiming
from sage_dask.report import ReportBuilder
from sage_dask.scheduling.gate import GateStatistics
from sage_dask.scheduling.servers import ServerStatistics
from sage_dask.scheduling.statistics import DispatcherStatistics, NodeStatistics, Notice
from sage_dask.standing import Progress

STAGES = ("read rows", "embed", "retrieve", "rerank", "prompt", "generate", "keep")
ASKING = "generate"
WRITTEN_PER_BATCH = 7
FAILED_PER_BATCH = 1


class FakeMonitor:
    """Gives out the snapshot that it was given."""

    def __init__(self, snapshot):
        self.now = snapshot
        self.num_taken = 0

    def snapshot(self):
        """Return it."""
        self.num_taken += 1
        return self.now


def full_snapshot(num_batches=50, *, num_jobs=3, num_nodes=4):
    """Return a snapshot; one of more batches is a later one of the same jobs.

    The first job has ended, the second is paused, the others run.
    """
    board = Board()
    names = [f"rag {number}/{number:04x}" for number in range(num_jobs)]
    for done in (num_batches - 5, num_batches):
        for number, name in enumerate(names):
            board.hear(name, "client", progress(name, done, is_over=number == 0), now_s=10.0 + done)
    return Snapshot(
        now_s=10.0 + num_batches,
        jobs=board.jobs(10.0 + num_batches, paused=names[1:2]),
        scheduling=scheduling(num_batches, num_nodes),
        nodes=[NodeLoad(f"node-{i}", 2, 8, 0.5, 0.9, i % 2) for i in range(num_nodes)],
        notices=[(1.0, Notice("unplaceable", "nobody")), (2.0, Notice("unplaceable", "still"))],
        may_control=False,
        num_observer_errors=num_batches // 25,
    )


def progress(name="rag/1", num_batches=50, *, is_over=False, num_taken_back=0):
    """Return how far a job is; what it measures is drawn with a seed of its name."""
    builder, draw = ReportBuilder(), random.Random(name)
    pipeline, _, job = name.rpartition("/")
    builder.add(JobStarted(pipeline, job, "on Dask", ["node-0"], 8, {}, STAGES, "2026-01-01"))
    for number in range(num_batches):
        builder.add(_committed(number, draw))
    if is_over:
        builder.add(JobFinished("done"))
    report = builder.glance()
    return Progress(
        pipeline,
        num_read=report.num_read - num_taken_back,
        num_written=report.num_written,
        num_failed=report.num_failed - num_taken_back,
        num_filtered=report.num_filtered,
        expected=100_000,
        elapsed_s=float(num_batches),
        tokens=report.usage.tokens,
        cost=report.usage.cost,
        report=report,
        latencies=builder.sketch.counts,
    )


def scheduling(num_batches, num_nodes):
    """Return what the dispatcher says."""
    return DispatcherStatistics(
        policy="spread",
        num_queued=12,
        num_running=30,
        num_abandoned=1,
        num_decisions=10 * num_batches,
        num_reserved=0,
        num_policy_errors=0,
        decisions={"spread": 9 * num_batches, "pack": num_batches},
        latest=(),
        paused=(),
        gates={"llm": GateStatistics(32.0, 20.0), "disk": GateStatistics(None, 2.0)},
        servers={
            "http://gpu-0:8000/v1": ServerStatistics(64, True, 60, 62, 3.0, 57.0, "found", None),
            "http://gpu-1:8000/v1": ServerStatistics(64, True, 0, 0, None, None, "down", 12.0),
        },
        jobs={},
        nodes={
            f"node-{i}": NodeStatistics(8.0, 9, 100, 50.0, 1.2, 2, 30.0 if i else None)
            for i in range(num_nodes)
        },
    )


def _committed(number, draw):
    """Return the event of a batch that passed all stages, each a task of its own."""
    tasks = [
        TaskTiming(stage, "node-0", timing.seconds, 0.0, (timing,), {spent.NODE: 0.2})
        for stage in STAGES
        for timing in [_timing(stage, draw)]
    ]
    away_s = sum(task.seconds + 0.2 for task in tasks) + 0.1
    driver = {spent.ADMISSION: 0.01, spent.AWAY: away_s, spent.RETURN: 0.02, spent.COMMIT: 0.03}
    return BatchCommitted(
        batch=number,
        num_read=10,
        num_written=WRITTEN_PER_BATCH,
        num_failed=FAILED_PER_BATCH,
        num_filtered=2,
        num_expanded=0,
        latency_s=sum(driver.values()) + 0.05,
        elapsed_s=float(number),
        tasks=tasks,
        failures={"generate: ValueError": FAILED_PER_BATCH},
        spent=driver,
    )


def _timing(stage, draw):
    """Return what a stage took for a batch, over two decades or so."""
    seconds = draw.lognormvariate(-1.5, 1.2)
    if stage != ASKING:
        return StageTiming(stage, seconds, 10, 10)
    usage = Usage(10, 1, 2, prompt_tokens=1000, cached_tokens=400, completion_tokens=300, cost=0.1)
    calls = CallTimes(
        10, seconds, 6 * seconds, 0.1 * seconds, 10, 6 * seconds, seconds, seconds, 3 * seconds
    )
    return StageTiming(stage, seconds, 10, 10, usage, calls)
