"""Declarative dataflow for end-to-end LLM inference, on Dask.

Declare a :class:`Pipeline` of operators, look at its plan, and run it in this
process or on a Dask cluster.  Operators live in :mod:`sage_dask.operators`,
local clusters in :mod:`sage_dask.cluster`.
"""

from __future__ import annotations

from sage_dask.errors import SageError, StopRun
from sage_dask.operators.sinks import Collect
from sage_dask.operators.sources import FromIterable
from sage_dask.pipeline import Pipeline
from sage_dask.plan import Plan
from sage_dask.record import Failure, Outcome, Record, SourceItem
from sage_dask.report import Report
from sage_dask.stage import FieldSet, Operator, Sink, Source, Stage
from sage_dask.version import __version__

__all__ = [
    "Collect",
    "Failure",
    "FieldSet",
    "FromIterable",
    "Operator",
    "Outcome",
    "Pipeline",
    "Plan",
    "Record",
    "Report",
    "SageError",
    "Sink",
    "Source",
    "SourceItem",
    "Stage",
    "StopRun",
    "__version__",
]
