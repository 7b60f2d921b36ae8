"""A server that imitates vLLM's timing, to try pipelines on before a GPU is paid for.

It speaks vLLM's API and batches, queues and fails as a real one would; its words
are noise.
"""

from __future__ import annotations

from sage_dask.cluster.timed_server.options import TimedOptions
from sage_dask.cluster.timed_server.process import TimedServerProcess
from sage_dask.cluster.timed_server.server import TimedServer
from sage_dask.cluster.timed_server.serving import serve

__all__ = ["TimedOptions", "TimedServer", "TimedServerProcess", "serve"]
