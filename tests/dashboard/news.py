"""News of jobs, as drivers tell them."""

from __future__ import annotations

from typing import Any

from distributed.protocol import pickle

from sage_dask.events import JobFinished
from sage_dask.report import ReportBuilder
from sage_dask.standing import Progress


def progress(num_read: int = 0, *, outcome: str | None = None, **more: Any) -> Progress:
    """Return how far a job is; it ended if it has an outcome."""
    builder = ReportBuilder()
    if outcome is not None:
        builder.add(JobFinished(outcome))
    facts: dict[str, Any] = {
        "num_written": num_read,
        "num_failed": 0,
        "num_filtered": 0,
        "expected": None,
        "elapsed_s": 1.0,
        "report": builder.report(),
    }
    return Progress("rag", num_read, **{**facts, **more})


def news(num_read: int = 0, **more: Any) -> bytes:
    """Return it as it travels."""
    pickled: bytes = pickle.dumps(progress(num_read, **more))
    return pickled
