"""Dask's local cluster in nodes: each is one or more worker processes under one name.

All that changes the set of nodes runs on the cluster's event loop, so it may be
asked for from any thread, also while a pipeline runs.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Sequence
from itertools import count
from typing import Any

import dask
from distributed import LocalCluster, Nanny

from sage_dask.nodes import NODE

_POLL_S = 0.01

# A retired worker waits for its running tasks before it ends; longer ones are cut off.
_END_TIMEOUT_S = 10

# As long as a call to a model server takes at the most; what runs longer is run again elsewhere.
_DRAIN_TIMEOUT_S = 60


class NodeCluster(LocalCluster):
    """A local cluster that starts without nodes; they come and go as wholes.

    Args:
        workers_per_node: Worker processes of one node.
        options: As for Dask's ``LocalCluster``, for one worker process.
    """

    def __init__(self, *, workers_per_node: int, **options: Any) -> None:
        self._workers_per_node = workers_per_node
        # A name is never used again, so what is told of a node that left stays true.
        self._numbers = count()
        self._worker_names: dict[str, list[str]] = {}
        super().__init__(n_workers=0, **options)

    @property
    def nodes(self) -> list[str]:
        """Names of the nodes, in the order in which they were added."""
        return list(self._worker_names)

    async def add_nodes(self, num_nodes: int) -> list[str]:
        """Start nodes and return their names; the scheduler knows their workers.

        Raises:
            RuntimeError: A worker ended as it started; none of these nodes is left.
        """
        added = [self._declare() for _ in range(num_nodes)]
        try:
            await self._correct_state()
        except BaseException:
            for node in added:
                await self.remove_node(node, kill=True)
            raise
        return added

    async def remove_node(self, node: str, *, kill: bool) -> None:
        """Stop a node for good; the scheduler no longer knows its workers.

        Args:
            node: One of ``nodes``.
            kill: SIGKILL to all its workers at once, in place of retiring them.
        """
        names = self._worker_names.pop(node)
        nannies = [self.workers.pop(name) for name in names if name in self.workers]
        for name in names:
            del self.worker_spec[name]
        for nanny in nannies:
            nanny.close_gracefully()  # So that a worker which crashes meanwhile is not restarted.
        if kill:
            for pid in [nanny.pid for nanny in nannies if nanny.pid is not None]:
                os.kill(pid, signal.SIGKILL)
        else:
            await self._retire(names, nannies)
        await asyncio.gather(*(nanny.close() for nanny in nannies))
        # The processes are gone, and so are their connections, which the scheduler is told next.
        while self._knows(names):
            await asyncio.sleep(_POLL_S)

    async def _retire(self, names: Sequence[str], nannies: Sequence[Nanny]) -> None:
        """Let a node's workers end what they run, hand on what they hold, and end."""
        # Dask forgets a retired worker at once, while its threads run on: with a gate, others
        # would start in their place.  So nothing new is placed, and retiring comes after.
        await self.scheduler.retire_workers(names=names, close_workers=False, remove=False)
        await self._drained(names)
        # Dask's own scale-down gives the names as addresses, and so retires nobody.
        retired = await self.scheduler.retire_workers(names=names)
        # Those end by themselves within a second; stopped meanwhile, they would log errors.
        ending = [
            asyncio.ensure_future(nanny.finished())
            for nanny in nannies
            if nanny.worker_address in retired
        ]
        if ending:
            await asyncio.wait(ending, timeout=_END_TIMEOUT_S)

    async def _drained(self, names: Sequence[str]) -> None:
        """Wait for the end of what workers run, within bounds."""
        for _ in range(round(_DRAIN_TIMEOUT_S / _POLL_S)):
            addresses = [self.scheduler.aliases.get(name) for name in names]
            workers = [self.scheduler.workers.get(address) for address in addresses]
            if not any(worker is not None and worker.processing for worker in workers):
                return
            await asyncio.sleep(_POLL_S)

    def _declare(self) -> str:
        """Put a node's workers into what Dask is to bring about, and return its name."""
        node = f"node-{next(self._numbers)}"
        workers = self._workers_per_node
        names = [node] if workers == 1 else [f"{node}/{number}" for number in range(workers)]
        self._worker_names[node] = names
        self.worker_spec.update(dict.fromkeys(names, self._spec(node)))
        return node

    def _spec(self, node: str) -> dict[str, Any]:
        """Return Dask's description of one worker of a node."""
        # The nanny keeps both, so that a worker which it restarts is told the same.
        config = {"sage": {**dask.config.get("sage", {}), NODE: node}}
        # The process that workers are forked from has the environment of its own start.
        environment = dict(os.environ)
        options = {**self.new_spec["options"], "config": config, "env": environment}
        return {**self.new_spec, "options": options}

    def _knows(self, names: Sequence[str]) -> bool:
        return any(name in self.scheduler.aliases for name in names)
