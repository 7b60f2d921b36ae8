"""Nodes on this machine: one worker process each, as a cluster in small.

Everything listens on the loopback interface only.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any, Self

import dask
from distributed import Client, LocalCluster
from distributed.utils import get_mp_context

from sage_dask.cluster import node_preload
from sage_dask.errors import PlanError, RunError

# Dask's defaults lose workers for good, or wait five minutes for a hanging one; both were
# measured (see ARCHITECTURE.md, "Dask's settings").
SETTINGS: Mapping[str, Any] = {
    "distributed.scheduler.worker-ttl": "60s",
    "distributed.scheduler.allowed-failures": 0,
    "distributed.deploy.lost-worker-timeout": "1h",
    "distributed.comm.timeouts.tcp": "15s",
    # Processes that do nothing need not look at themselves fifty times a second: two idle
    # nodes and their driver took 11 % of a core, and take 3 % like this.
    "distributed.admin.tick.interval": "500ms",
    "distributed.admin.system-monitor.interval": "1s",
    "distributed.worker.profile.interval": "50ms",
}

_NO_GUARD = (
    "error: every node imports the main script, and that starts LocalNodes again; "
    "put the script's last part under: if __name__ == '__main__':"
)

# Sixteen processes on two busy cores took 20 s; a minute is a fault.
_START_TIMEOUT_S = 60


def _process_settings(preload: Sequence[str]) -> dict[str, str]:
    """Arrange for nodes to be forked from a process that imported some modules already.

    Dask sets its own list of modules when it first asks for the context, so that comes first.
    A process that forked nodes before keeps the list it started with.
    """
    if not preload:
        return {}
    method = {"distributed.worker.multiprocessing-method": "forkserver"}
    with dask.config.set(method):
        get_mp_context().set_forkserver_preload(["distributed", *preload])
    return method


def _refuse_within_import() -> None:
    """End a node that runs the main script again, as a script without its guard makes it.

    Left alone it would start nodes of its own, and they theirs.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        print(_NO_GUARD, file=sys.stderr, flush=True)
        os._exit(1)


class _NamedCluster(LocalCluster):
    """A local cluster whose workers are called ``node-0``, ``node-1``, ..."""

    def _new_worker_name(self, worker_number: int) -> str:
        return f"node-{worker_number}"

    def start_workers(self, num_workers: int) -> None:
        """Start workers; unlike ``scale``, it raises when one of them can not start."""
        for _ in range(num_workers):
            self.worker_spec.update(self.new_worker_spec())
        self.sync(self._correct_state)


class LocalNodes:
    """A Dask cluster of worker processes on this machine, as a context manager.

    Args:
        num_nodes: Worker processes, called ``node-0``, ``node-1``, ...
        threads: Tasks that one node runs at a time.
        resources: What each node supplies, such as ``{"LLM": 4}``.
        memory_limit: Memory at which a node is restarted, such as ``"2GiB"``; None for no limit.
        preload: Modules that are imported once, before nodes are forked from that process,
            such as ``pipeline.imports``: four nodes with torch start in 8.5 s instead of 30 s.
        dashboard: Port of Dask's dashboard on 127.0.0.1; 0 for any free one, None for none.
    """

    def __init__(
        self,
        num_nodes: int,
        *,
        threads: int = 1,
        resources: Mapping[str, float] | None = None,
        memory_limit: str | None = None,
        preload: Sequence[str] = (),
        dashboard: int | None = 0,
    ) -> None:
        if num_nodes < 1 or threads < 1:
            raise PlanError(
                f"LocalNodes({num_nodes}, threads={threads}): needs one node and one thread "
                "at least; leave the cluster out to run in this process"
            )
        _refuse_within_import()
        started = time.perf_counter()
        settings = {**SETTINGS, **_process_settings(preload)}
        with ExitStack() as undo:
            # For as long as the nodes live: restarting one reads the settings again.
            undo.enter_context(dask.config.set(settings))
            self._cluster = undo.enter_context(
                _NamedCluster(
                    n_workers=0,
                    threads_per_worker=threads,
                    processes=True,
                    host="127.0.0.1",
                    # Without an address Dask would serve its metrics at its default port.
                    dashboard_address=f"127.0.0.1:{dashboard or 0}",
                    scheduler_kwargs={"dashboard": dashboard is not None},
                    memory_limit=memory_limit or 0,
                    resources=dict(resources or {}),
                    # What Dask logs as errors, with tracebacks, the runner tells in one sentence.
                    silence_logs=logging.CRITICAL,
                    preload=[node_preload.__name__],
                )
            )
            self.client = undo.enter_context(Client(self._cluster, set_as_default=False))
            self._start(num_nodes)
            self._undo = undo.pop_all()
        self.startup_s = time.perf_counter() - started
        self._num_nodes = num_nodes
        self._threads = threads
        self._has_dashboard = dashboard is not None

    def _start(self, num_nodes: int) -> None:
        try:
            self._cluster.start_workers(num_nodes)
            self.client.wait_for_workers(num_nodes, timeout=_START_TIMEOUT_S)
        except RuntimeError as error:
            raise RunError(
                f"LocalNodes: a node ended as it started ({error}); what it said is above, and a "
                "script that starts nodes must do so under: if __name__ == '__main__':"
            ) from error
        except TimeoutError as error:
            raise RunError(
                f"LocalNodes: {len(self._cluster.scheduler.workers)} of {num_nodes} nodes started "
                f"within {_START_TIMEOUT_S} s; ask for fewer, or free memory and cores"
            ) from error

    @property
    def dashboard_link(self) -> str | None:
        """Address of Dask's dashboard, or None where there is none."""
        link: str = self._cluster.dashboard_link
        return link if self._has_dashboard else None

    def close(self) -> None:
        """Stop all nodes."""
        self._undo.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<LocalNodes {self._num_nodes} x {self._threads} threads>"
