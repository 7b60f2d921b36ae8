"""Loaded by every local node as it starts.

Ctrl-C in a terminal reaches all processes of its group.  It is the driver that
decides what it means: it writes what is done and then stops the nodes.
"""

from __future__ import annotations

import signal

from distributed import Worker


def dask_setup(worker: Worker) -> None:  # noqa: ARG001 - Dask passes it
    """Leave Ctrl-C to the driver."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
