"""What a job cost, counted from its events, and that in all its forms: text, JSON, HTML, LaTeX."""

from sage_dask.report.counting import Report, ReportBuilder
from sage_dask.report.figures import NodeCost, StageCost

__all__ = ["NodeCost", "Report", "ReportBuilder", "StageCost"]
