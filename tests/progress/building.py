"""States of jobs, and screens that remember."""

from __future__ import annotations

from sage_dask.endpoint.usage import Usage
from sage_dask.metrics import LatencySummary
from sage_dask.progress.overview import JobRow
from sage_dask.report import Report, StageCost
from sage_dask.standing import Progress


class FakeScreen:
    """Remembers what was drawn on it, and when it was open."""

    def __init__(self):
        self.story = []
        self.drawn = []

    def open(self):
        """Note that it was opened."""
        self.story.append("open")

    def draw(self, overview):
        """Note what was drawn."""
        self.drawn.append(overview)

    def close(self):
        """Note that it was closed."""
        self.story.append("close")


def report_of(outcome="running", *, message="", stages=None, failures=None, num_written=90):
    """Return what is counted of a job of two stages, or of those given."""
    stages = stages or {"embed": StageCost(1.0, 100, 100), "generate": StageCost(9.0, 100, 90)}
    return Report(
        pipeline="rag",
        job="1f",
        runner="in this process",
        outcome=outcome,
        message=message,
        num_read=100,
        num_written=num_written,
        num_failed=len(failures or {}),
        num_filtered=0,
        num_expanded=0,
        makespan_s=10.0,
        latency=LatencySummary(0.6, 0.5, 2.25, num_written),
        startup_s={},
        setup_s=0.0,
        stages=stages,
        nodes={},
        last_failures=failures or {},
    )


def progress_of(
    num_read=100, *, pipeline="rag", expected=None, num_failed=0, elapsed_s=10.0, **others
):
    """Return the state of a job in which nothing else happened."""
    written = num_read - num_failed - others.get("num_filtered", 0)
    return Progress(
        pipeline,
        num_read,
        written,
        num_failed,
        others.pop("num_filtered", 0),
        expected,
        elapsed_s,
        **others,
    )


def row_of(name="rag", *, state="running", rate=10.0, eta_s=None, **progress):
    """Return a job as a row."""
    told = progress_of(**progress)
    return JobRow(name, told, state, told.elapsed_s, rate, eta_s)


ASKING = StageCost(
    9.0, 100, 90, Usage(requests=1_212, retries=3, prompt_tokens=20_000, completion_tokens=5_000)
)
