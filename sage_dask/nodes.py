"""Which node a worker is on, by one rule for the worker, the driver and the scheduler.

A node is a machine, and may hold several worker processes.  Its name is what
the launcher declared for it, else the host of the worker's address.
"""

from __future__ import annotations

# Under this key a worker tells the scheduler its node's name: WorkerState.extra["node"] there,
# scheduler_info()["workers"][address]["node"] for a client.
NODE = "node"

# Dask setting that declares the name; as an environment variable DASK_SAGE__NODE.
NODE_SETTING = "sage.node"


def node_name(declared: object, host: str) -> str:
    """Return the name of a worker's node.

    Args:
        declared: What the worker told under ``NODE``; None or empty where it told nothing.
        host: Host of the worker's address, as the scheduler knows it.

    >>> node_name("rack1-a", "10.0.0.7"), node_name(None, "10.0.0.7")
    ('rack1-a', '10.0.0.7')
    """
    # Not by truth: Dask reads DASK_SAGE__NODE=0 as a number.
    return host if declared is None or declared == "" else str(declared)
