"""Nodes on this machine: a worker process or a few each, as a cluster in small.

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
from distributed import Client
from distributed.utils import get_mp_context

from sage_dask.cluster import node_preload
from sage_dask.cluster.node_cluster import NodeCluster
from sage_dask.cluster.shares import share_out
from sage_dask.errors import PlanError, RunError, did_you_mean, listed
from sage_dask.scheduling.on_dask.control import SchedulerControl
from sage_dask.scheduling.policy import Policy

# Dask's defaults lose workers for good, or wait five minutes for a hanging one; both were
# measured (see ARCHITECTURE.md, "Dask's settings").
SETTINGS: Mapping[str, Any] = {
    "distributed.scheduler.worker-ttl": "60s",
    "distributed.scheduler.allowed-failures": 0,
    "distributed.deploy.lost-worker-timeout": "1h",
    "distributed.comm.timeouts.tcp": "15s",
    # A fetch that was begun just as its worker died waits this out before it looks elsewhere.
    "distributed.comm.timeouts.connect": "10s",
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

# With these imported before the fork, sixteen nodes start in 1.1 s instead of 5.1 s, for a fifth
# of the CPU and half of the memory (two cores).
_PRELOAD = ("distributed", "sage_dask.worker")


def _process_settings(preload: Sequence[str]) -> dict[str, str]:
    """Arrange for nodes to be forked from a process that imported some modules already.

    Dask sets its own list of modules when it first asks for the context, so that comes first.
    A process that forked nodes before keeps the list it started with.
    """
    method = {"distributed.worker.multiprocessing-method": "forkserver"}
    with dask.config.set(method):
        get_mp_context().set_forkserver_preload([*_PRELOAD, *preload])
    return method


def _refuse_within_import() -> None:
    """End a node that runs the main script again, as a script without its guard makes it.

    Left alone it would start nodes of its own, and they theirs.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        print(_NO_GUARD, file=sys.stderr, flush=True)
        os._exit(1)


class LocalNodes:
    """A Dask cluster of nodes on this machine, as a context manager.

    Args:
        num_nodes: Nodes to start, called ``node-0``, ``node-1``, ...
        threads: Tasks that one node runs at a time, over all its workers.
        workers_per_node: Worker processes of one node, called ``node-0/0``, ``node-0/1``, ...
            where there are several; each gets an equal share of what the node has.
        resources: What each node supplies, such as ``{"LLM": 4}``.
        memory_limit: Memory of a node, such as ``"2GiB"``; a worker that exceeds its share is
            restarted.  None for no limit.
        preload: Modules that are imported once, before nodes are forked from that process,
            such as ``pipeline.imports``: four nodes with torch start in 8.5 s instead of 30 s.
            What counts is the list of the first nodes that a process starts.
        dashboard: Port of Dask's dashboard on 127.0.0.1; 0 for any free one, None for none.
        allow_control: Let the dashboard pause and cancel jobs and change how tasks are placed:
            everyone on this machine can open it.  Dask's setting ``sage.allow-control`` does too.

    Raises:
        PlanError: Nothing could run, or threads or resources can not be split over the workers.
        RunError: A node ended as it started.
    """

    def __init__(
        self,
        num_nodes: int,
        *,
        threads: int = 1,
        workers_per_node: int = 1,
        resources: Mapping[str, float] | None = None,
        memory_limit: str | None = None,
        preload: Sequence[str] = (),
        dashboard: int | None = 0,
        allow_control: bool = False,
    ) -> None:
        if num_nodes < 1 or threads < 1 or workers_per_node < 1:
            raise PlanError(
                f"LocalNodes({num_nodes}, threads={threads}, workers_per_node={workers_per_node}): "
                "needs one node, one thread and one worker at least; leave the cluster out to run "
                "in this process"
            )
        share = share_out(
            workers_per_node, threads=threads, resources=resources, memory_limit=memory_limit
        )
        _refuse_within_import()
        started = time.perf_counter()
        settings = {**SETTINGS, **_process_settings(preload)}
        if allow_control:
            settings["sage.allow-control"] = True
        with ExitStack() as undo:
            # For as long as the nodes live: restarting one reads the settings again.
            undo.enter_context(dask.config.set(settings))
            self._cluster = undo.enter_context(
                NodeCluster(
                    workers_per_node=workers_per_node,
                    threads_per_worker=share.threads,
                    processes=True,
                    host="127.0.0.1",
                    # Without an address Dask would serve its metrics at its default port.
                    dashboard_address=f"127.0.0.1:{dashboard or 0}",
                    scheduler_kwargs={"dashboard": dashboard is not None},
                    memory_limit=share.memory_bytes,
                    resources=dict(share.resources),
                    # What Dask logs as errors, with tracebacks, the runner tells in one sentence.
                    silence_logs=logging.CRITICAL,
                    preload=[node_preload.__name__],
                )
            )
            self.client = undo.enter_context(Client(self._cluster, set_as_default=False))
            self.add(num_nodes)
            self._undo = undo.pop_all()
        self.startup_s = time.perf_counter() - started
        self._shape = f"{threads} threads"
        if workers_per_node > 1:
            self._shape += f" in {workers_per_node} workers"
        self._has_dashboard = dashboard is not None

    @property
    def names(self) -> list[str]:
        """Names of the nodes, in the order in which they were added."""
        names: list[str] = self._cluster.nodes
        return names

    @property
    def dashboard_link(self) -> str | None:
        """Address of Dask's dashboard, or None where there is none."""
        link: str = self._cluster.dashboard_link
        return link if self._has_dashboard else None

    @property
    def pipelines_link(self) -> str | None:
        """Address of the page of its jobs, which is there from the first run on."""
        link = self.dashboard_link
        return None if link is None else link.removesuffix("status") + "pipelines"

    def add(self, count: int = 1) -> list[str]:
        """Start more nodes, and return their names once the scheduler knows them.

        Names go on from the last that was given; those of nodes that left are not used again.

        Raises:
            PlanError: ``count`` is below 1.
            RunError: A node ended as it started; none of these nodes is left.
        """
        if count < 1:
            raise PlanError(f"LocalNodes.add({count}): needs one node at least; use remove(name)")
        try:
            added: list[str] = self._cluster.sync(self._cluster.add_nodes, count)
        except RuntimeError as error:
            raise RunError(
                f"LocalNodes: a node ended as it started ({error}); what it said is above, and a "
                "script that starts nodes must do so under: if __name__ == '__main__':"
            ) from error
        return added

    def remove(self, name: str, *, kill: bool = False) -> None:
        """Stop a node for good, and return once the scheduler has forgotten it.

        Args:
            name: One of ``names``.
            kill: End its processes with SIGKILL, as a machine that loses power.  Without it the
                results that it holds move to other nodes first.  Either way the tasks that it
                runs are run again elsewhere.

        Raises:
            PlanError: There is no such node.
        """
        if name not in self.names:
            raise PlanError(
                f"LocalNodes has no node {name!r}; it has {listed(self.names)}"
                f"{did_you_mean(name, self.names)}"
            )
        self._cluster.sync(self._cluster.remove_node, name, kill=kill)

    @property
    def scheduling(self) -> SchedulerControl:
        """How tasks are placed here, to look at and to change while jobs run."""
        control = SchedulerControl(self.client)
        control.start()
        return control

    def set_policy(self, policy: str | Policy, **parameters: Any) -> None:
        """Have another policy decide; see :meth:`.SchedulerControl.set_policy`."""
        self.scheduling.set_policy(policy, **parameters)

    def set_gate(self, name: str, limit: float | None) -> None:
        """Set how many slots a cluster-wide gate has: 0 closes it, None takes the limit away."""
        self.scheduling.set_gate(name, limit)

    def close(self) -> None:
        """Stop all nodes."""
        self._undo.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<LocalNodes {len(self.names)} x {self._shape}>"
