"""Who executes a plan: this process, or a Dask cluster.

Both runners drive the same job with the same executor, so their outputs are
equal; they differ in where a batch is while it is worked on.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Protocol, runtime_checkable

from sage_dask.execute import TaskExecutor
from sage_dask.job import Job, Machines, RunOptions
from sage_dask.plan import Plan
from sage_dask.report import Report


@runtime_checkable
class Runner(Protocol):
    """Runs plans, one at a time."""

    def worker_resources(self) -> Sequence[Mapping[str, float]] | None:
        """Return what each worker supplies; None where tasks run one at a time, on anything."""
        ...

    def gates(self) -> Mapping[str, float] | None:
        """Return the limit of each gate; None where nothing is shared, so that none is needed."""
        ...

    def run(self, plan: Plan, options: RunOptions) -> Report:
        """Run a plan to its end and return what it cost."""
        ...


class LocalRunner:
    """Runs a plan in this process and thread: the reference, and the quickest for small inputs.

    Tasks run one at a time and share with nobody, so policy, gates, priorities, weight and quota
    change nothing here.
    """

    node = "local"

    def worker_resources(self) -> None:
        """Return None: tasks run one at a time, so nothing they hold can run out."""

    def gates(self) -> None:
        """Return None: there is nobody to share with."""

    def run(self, plan: Plan, options: RunOptions) -> Report:
        """Run a plan to its end and return what it cost."""
        job = Job(plan, options, Machines("in this process", [self.node], 1))
        executors = [TaskExecutor(task) for task in plan.stages]
        try:
            started = time.perf_counter()
            for executor in executors:
                executor.setup()
            startup_s = {"operators": time.perf_counter() - started}
            with running(job, startup_s):
                while (batch := job.admit()) is not None:
                    for executor in executors:
                        batch = executor.run(batch, node=self.node)
                    job.settle(batch)
                return job.finish()
        finally:
            for executor in executors:
                executor.teardown()


@contextmanager
def running(job: Job, startup_s: Mapping[str, float]) -> Iterator[Job]:
    """Start a job, and abort it in good order if anything ends it early."""
    try:
        job.start(startup_s)
        yield job
    except BaseException as error:
        job.abort(error)
        raise
