"""A simulator's scenario on real nodes: who ran what, and in which order."""

from __future__ import annotations

from itertools import pairwise

import pytest

from sage_dask.cluster import LocalNodes
from sage_dask.experiments.placement import measured, simulated
from sage_dask.experiments.replay import SLOT, replay
from sage_dask.schedule import STOCK
from sage_dask.scheduling.simulation.machines import SimulatedNode
from sage_dask.scheduling.simulation.scenario import Scenario
from sage_dask.scheduling.simulation.workload import Stream, single_steps
from sage_dask.scheduling.view import demand

pytestmark = pytest.mark.cluster

NODES = [SimulatedNode("node-0", 2), SimulatedNode("node-1", 2, slowdown=2.0)]


@pytest.fixture(scope="module")
def machines():
    """Lend two nodes of two threads with a slot each."""
    with LocalNodes(2, threads=2, resources={SLOT: 1}, dashboard=None) as nodes:
        yield nodes


def scenario(*, gate=None):
    """Return ten naps that all wait from the start, behind a gate or not."""
    needs = demand(gates={"server": 1}) if gate else None
    batches = single_steps([0.01] * 10, demand=needs)
    return Scenario(NODES, [Stream("main/1", batches)], gates={"server": gate} if gate else {})


@pytest.mark.parametrize("policy", [STOCK, "round-robin"])
def test_every_batch_runs_once_and_slow_nodes_are_slow(machines, policy):
    """Ten naps come back, those on the slow node twice as long."""
    found = replay(scenario(), machines, policy)

    assert len(found.rows) == 10
    assert {row.node for row in found.rows} <= {"node-0", "node-1"}
    assert all(
        row.ended_s - row.started_s >= (0.02 if row.node == "node-1" else 0.01)
        for row in found.rows
    )


def test_a_gate_holds_on_real_nodes(machines):
    """Behind one slot no two naps overlap."""
    rows = sorted(replay(scenario(gate=1.0), machines, "fifo").rows, key=lambda row: row.started_s)

    assert all(before.ended_s <= after.started_s for before, after in pairwise(rows))


def test_real_and_simulated_runs_are_counted_alike(machines):
    """Both find the ten tasks, on the same nodes under the same policy."""
    real = measured(scenario(), machines, "round-robin")
    model = simulated(scenario(), "round-robin")

    assert (real.num_tasks, real.num_nodes_used) == (model.num_tasks, model.num_nodes_used)
    assert real.cpu_share is not None
    assert model.cpu_share is None
