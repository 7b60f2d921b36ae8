"""Start a timed server as a child process: ``python -m sage_dask.cluster.timed_server PORT``."""

from __future__ import annotations

from sage_dask.cluster.timed_server.serving import main

main()
