"""Nodes that come and go while the cluster runs."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest
from distributed import SchedulerPlugin
from distributed.client import FutureCancelledError

from sage_dask.cluster import LocalNodes, node_preload
from sage_dask.errors import PlanError, RunError

pytestmark = pytest.mark.cluster


@pytest.fixture
def nodes():
    """Lend two nodes of two workers each; what is left of them at the end is consistent."""
    with LocalNodes(2, threads=2, workers_per_node=2, dashboard=None) as nodes:
        yield nodes
        assert sorted(nodes.names) == sorted(set(told(nodes).values()))


def told(nodes):
    """Return the node of each worker, by the worker's name, as a client sees them."""
    workers = nodes.client.scheduler_info(n_workers=-1)["workers"].values()
    return {worker["name"]: worker["node"] for worker in workers}


class Arrivals(SchedulerPlugin):
    """Notes every worker that joins."""

    def __init__(self):
        self.workers = []

    def add_worker(self, scheduler, worker):
        self.workers.append(worker)


def pids(nodes, node):
    """Return the processes of a node."""
    found = nodes.client.run(os.getpid)
    workers = nodes._cluster.scheduler.workers
    return [pid for address, pid in found.items() if workers[address].extra["node"] == node]


def double(x):
    return 2 * x


def test_added_nodes_are_known_and_numbered_on(nodes):
    """When ``add`` returns, the scheduler has their workers; names are given once."""
    nodes.remove("node-1")

    added = nodes.add(2)

    assert added == ["node-2", "node-3"]
    assert nodes.names == ["node-0", "node-2", "node-3"]
    assert told(nodes) == {
        f"{node}/{number}": node for node in ("node-0", "node-2", "node-3") for number in (0, 1)
    }


@pytest.mark.parametrize("kill", [False, True])
def test_a_removed_node_is_gone_for_good(nodes, kill):
    """Its processes have ended and the scheduler knows none of them; no nanny brings one back."""
    removed = pids(nodes, "node-0")
    nannies = list(nodes._cluster.workers.values())
    arrivals = Arrivals()
    nodes._cluster.scheduler.add_plugin(arrivals)

    nodes.remove("node-0", kill=kill)

    assert told(nodes) == {"node-1/0": "node-1", "node-1/1": "node-1"}
    assert len(removed) == 2
    assert not any(psutil.pid_exists(pid) for pid in removed)
    assert arrivals.workers == []
    # A nanny that has closed can restart nothing.
    assert sorted(nanny.status.name for nanny in nannies) == ["closed"] * 2 + ["running"] * 2


def test_a_retired_node_hands_its_results_on(nodes):
    """Nothing that a retired node holds is computed again."""
    scattered = nodes.client.scatter(
        list(range(10)), workers=["node-0/0", "node-0/1"], hash=False, broadcast=False
    )

    nodes.remove("node-0")

    assert nodes.client.gather(scattered) == list(range(10))


def test_a_killed_node_takes_its_results_along(nodes):
    """What only a killed node held is lost, as when a machine loses power."""
    scattered = nodes.client.scatter([1, 2], workers=["node-0/0", "node-0/1"], hash=False)

    nodes.remove("node-0", kill=True)

    with pytest.raises(FutureCancelledError, match="cancelled"):
        nodes.client.gather(scattered)


@pytest.mark.slow
def test_the_last_node_can_leave_and_another_take_over(nodes):
    """Work that waits for a node runs on the next one that is added."""
    held = nodes.client.submit(double, 1)
    assert held.result() == 2

    nodes.remove("node-0")
    nodes.remove("node-1")
    waiting = nodes.client.submit(double, 4)
    nodes.add()

    assert [held.result(), waiting.result()] == [2, 8]
    assert nodes.names == ["node-2"]


def test_a_node_keeps_its_name_when_a_worker_is_restarted(nodes):
    """The nanny tells each new worker process what it told the first one."""
    (killed, _), before = pids(nodes, "node-0"), told(nodes)
    address, *_ = (address for address, pid in nodes.client.run(os.getpid).items() if pid == killed)

    nodes.client.restart_workers([address])

    assert told(nodes) == before
    assert killed not in pids(nodes, "node-0")


def test_nodes_can_be_changed_from_several_threads(nodes):
    """Threads that add at the same time get different names, and all nodes are there."""
    with ThreadPoolExecutor(3) as pool:
        added = [name for names in pool.map(nodes.add, [1, 1, 1]) for name in names]

    assert sorted(added) == ["node-2", "node-3", "node-4"]


def test_new_nodes_see_the_environment_of_today(nodes, monkeypatch):
    """A variable that is set later reaches nodes that are added later, as a key must."""
    monkeypatch.setenv("SET_FOR_A_TEST", "yes")

    nodes.add()

    (worker, *_) = (name for name, node in told(nodes).items() if node == "node-2")
    seen = nodes.client.submit(os.getenv, "SET_FOR_A_TEST", workers=[worker], pure=False)
    assert seen.result() == "yes"


def test_a_node_that_can_not_start_leaves_nothing_behind(nodes, monkeypatch):
    """The other nodes go on, and the next one can be added."""
    options = nodes._cluster.new_spec["options"]
    monkeypatch.setitem(options, "preload", ["no_such_module_for_a_test"])

    with pytest.raises(RunError, match=r"LocalNodes: a node ended as it started"):
        nodes.add(2)
    monkeypatch.setitem(options, "preload", [node_preload.__name__])
    added = nodes.add()

    assert added == ["node-4"]
    assert set(told(nodes).values()) == {"node-0", "node-1", "node-4"}
    assert set(nodes._cluster.workers) == set(told(nodes))


def test_a_name_that_is_not_there_is_refused(nodes):
    """A worker's name is not a node's; the nodes that are there are named."""
    with pytest.raises(
        PlanError, match=r"no node 'node-0/1'; it has 'node-0', 'node-1'; did you mean 'node-.'"
    ):
        nodes.remove("node-0/1")


def test_adding_no_node_is_refused(nodes):
    """A count below one is a mistake, told with the call that takes nodes away."""
    with pytest.raises(PlanError, match=r"add\(-1\): needs one node at least; use remove\(name\)"):
        nodes.add(-1)
