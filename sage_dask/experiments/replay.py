"""Runs a simulator's scenario on real nodes: the same arrivals, durations and slow machines.

A task sleeps for what it would compute, so that sixteen nodes fit on a machine of
two cores; everything else (scheduler, messages, worker processes) is real.
"""

from __future__ import annotations

import gc
import secrets
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import dask
import psutil
from dask._task_spec import Task
from distributed import Client, Future, get_worker

from sage_dask.cluster import LocalNodes
from sage_dask.experiments.outcome import Ran
from sage_dask.schedule import SAGE, STOCK
from sage_dask.scheduling.simulation.scenario import Scenario
from sage_dask.scheduling.simulation.workload import Batch, Step

# What stands for a gate's slots where Dask places: so many on each node.
SLOT = "SLOT"

# Tasks that come within this time are handed over in one graph.
_EVERY_S = 0.02


@dataclass(frozen=True, slots=True)
class Replay:
    """What happened on real nodes."""

    rows: Sequence[Ran]
    cpu_share: float
    """Share of this machine's cores in use meanwhile, by anyone."""


def nap(seconds: float, slowdowns: Mapping[str, float]) -> tuple[str, float, float]:
    """Sleep on a worker; return its node, and when the sleep began and ended."""
    node = str(get_worker().name)
    started_s = time.time()
    time.sleep(seconds * slowdowns.get(node, 1.0))
    return node, started_s, time.time()


def replay(scenario: Scenario, nodes: LocalNodes, policy: str, **parameters: Any) -> Replay:
    """Run a scenario's streams, of one step per batch, on nodes of the same names and threads.

    Args:
        scenario: Whose streams to run; gates are set before.
        nodes: Where.
        policy: How tasks are placed; ``"dask"`` leaves that to Dask, which knows no gates and
            gets an equal share of their slots as a resource ``"SLOT"`` on each node instead.
        parameters: Of the policy.
    """
    # Nothing of the runs before is known, neither durations nor who is slow.
    nodes.scheduling.detach()
    if policy != STOCK:
        nodes.set_policy(policy, **parameters)
        for name, limit in scenario.gates.items():
            nodes.set_gate(name, limit)
    slowdowns = {node.name: node.slowdown for node in scenario.nodes if node.slowdown != 1}
    batches = sorted(
        ((stream.job, batch) for stream in scenario.streams for batch in stream.batches),
        key=lambda pair: pair[1].arrives_s,
    )
    # Else each run would pay for collecting what the runs before it left alive.
    gc.collect()
    gc.freeze()
    psutil.cpu_percent()
    begun_s = time.time() + 0.1
    sent = _send(nodes.client, batches, slowdowns, begun_s, is_stock=policy == STOCK)
    found = nodes.client.gather([future for future, _ in sent])
    cpu_share = psutil.cpu_percent() / 100
    rows = [
        Ran(batch.arrives_s, started_s - begun_s, ended_s - begun_s, node, batch.priority)
        for (_, batch), (node, started_s, ended_s) in zip(sent, found, strict=True)
    ]
    return Replay(rows, cpu_share)


def _send(
    client: Client,
    batches: Sequence[tuple[str, Batch]],
    slowdowns: Mapping[str, float],
    begun_s: float,
    *,
    is_stock: bool,
) -> list[tuple[Future, Batch]]:
    """Hand over batches when they are due, a few together."""
    sent: list[tuple[Future, Batch]] = []
    run = secrets.token_hex(4)
    number = 0
    while number < len(batches):
        time.sleep(max(0.0, begun_s + batches[number][1].arrives_s - time.time()))
        until_s = max(time.time() - begun_s, batches[number][1].arrives_s)
        due: defaultdict[tuple[str, float], dict[Any, Batch]] = defaultdict(dict)
        while number < len(batches) and batches[number][1].arrives_s <= until_s:
            job, batch = batches[number]
            due[job, batch.priority][f"nap-{run}", number] = batch
            number += 1
        for (job, priority), alike in due.items():
            step = next(iter(alike.values())).steps[0]
            said = _stock(step) if is_stock else _ours(step, job, priority)
            with dask.annotate(**said):
                sent += _submit(client, alike, slowdowns)
        time.sleep(_EVERY_S)
    return sent


def _submit(
    client: Client, batches: Mapping[Any, Batch], slowdowns: Mapping[str, float]
) -> Iterator[tuple[Future, Batch]]:
    graph = {
        key: Task(key, nap, batch.steps[0].seconds, slowdowns) for key, batch in batches.items()
    }
    futures = client.get(graph, list(graph), sync=False, fifo_timeout="0s")
    return zip(futures, batches.values(), strict=True)


def _ours(step: Step, job: str, priority: float) -> dict[str, Any]:
    said = {"job": job, "pipeline": "replay", "stage": step.stage, "priority": priority}
    return {SAGE: {**said, "gates": dict(step.demand.gates)}}


def _stock(step: Step) -> dict[str, Any]:
    return {"resources": {SLOT: 1}} if step.demand.gates else {}
