"""A cluster's snapshot, from any client of it."""

from __future__ import annotations

from distributed import Client
from distributed.protocol import pickle

from sage_dask.dashboard.snapshot import Snapshot
from sage_dask.dashboard.wire import SNAPSHOT
from sage_dask.errors import RunError


def snapshot_of(client: Client, num_points: int = 0) -> Snapshot:
    """Return what is to be seen of a cluster.

    Args:
        client: Connected to it.
        num_points: How many of each job's latest points to bring, at a point a second.

    Raises:
        RunError: Its scheduler has no monitor.
    """
    pickled = client.sync(getattr(client.scheduler, SNAPSHOT), num_points=num_points)
    if pickled is None:
        # A scheduler's answer to whatever it has no procedure for.
        raise RunError(
            f"scheduler {client.scheduler.address} shows no jobs of sage_dask: it has seen none, "
            "or its setting 'sage.observe' is false; run a pipeline first, or start it with "
            "'--preload sage_dask.preload' and without that setting"
        )
    snapshot: Snapshot = pickle.loads(pickled)
    return snapshot
