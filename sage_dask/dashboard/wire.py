"""Names of the remote procedures by which a scheduler's monitor is told and asked."""

from __future__ import annotations

NEWS = "sage_dask_news"
"""Takes ``job``, ``client`` and ``news``, a pickled ``Progress``."""

SNAPSHOT = "sage_dask_snapshot"
"""Takes ``num_points``, and answers with a pickled ``Snapshot`` of so many points of each job."""
