"""Loaded by every worker of a local node as it starts; any launcher may do the same.

``DASK_SAGE__NODE=rack1-a dask worker --preload sage_dask.cluster.node_preload``
declares the name under which the worker's machine is known in decisions and reports.
"""

from __future__ import annotations

import signal

import dask
from distributed import Worker

from sage_dask.nodes import NODE, NODE_SETTING


def dask_setup(worker: Worker) -> None:
    """Declare the worker's node, before it registers, and leave Ctrl-C to the driver."""
    name = dask.config.get(NODE_SETTING, None)
    if name is not None:
        worker.startup_information[NODE] = lambda _: str(name)
    # Ctrl-C in a terminal reaches all processes of its group.  It is the driver that decides
    # what it means: it writes what is done and then stops the nodes.  A worker without a nanny
    # may have no one else to stop it.
    if worker.nanny is not None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
