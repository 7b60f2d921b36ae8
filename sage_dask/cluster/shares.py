"""What one of a node's worker processes gets of what the node has: equal shares."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

from distributed.worker_memory import parse_memory_limit

from sage_dask.errors import PlanError

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class WorkerShare:
    """What one worker process supplies."""

    threads: int
    resources: Mapping[str, float]
    memory_bytes: int
    """Memory at which the worker is restarted; 0 for no limit."""


def share_out(
    num_workers: int,
    *,
    threads: int,
    resources: Mapping[str, float] | None = None,
    memory_limit: str | None = None,
) -> WorkerShare:
    """Return what each of a node's workers gets.

    Args:
        num_workers: Worker processes of the node.
        threads: Of the whole node, as are all that follow.
        resources: Whole amounts stay whole; fractions are divided as they are.
        memory_limit: As Dask reads it, such as ``"2GiB"``; None for no limit.

    Raises:
        PlanError: Threads or a whole amount can not be split evenly.
    """
    shares = {
        name: _share(f"resource {name!r}", amount, num_workers)
        for name, amount in (resources or {}).items()
    }
    limit = parse_memory_limit(memory_limit, threads, logger=_log) or 0
    return WorkerShare(int(_share("threads", threads, num_workers)), shares, limit // num_workers)


def _share(what: str, amount: float, num_workers: int) -> float:
    if amount % 1:
        return amount / num_workers
    if amount % num_workers:
        raise PlanError(
            f"LocalNodes(workers_per_node={num_workers}): {what} of {amount:g} per node can not "
            f"be split evenly over {num_workers} workers; give a multiple of {num_workers}, or "
            "fewer workers"
        )
    return amount // num_workers
