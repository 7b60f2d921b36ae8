"""Worker, driver and scheduler name a worker's node alike, whoever started the cluster."""

from __future__ import annotations

from contextlib import contextmanager

import pytest
from distributed import Client, LocalCluster

from sage_dask.cluster import LocalNodes
from sage_dask.nodes import NODE, node_name
from sage_dask.worker import _node


@contextmanager
def ours():
    """Lend a node of two workers and its cluster."""
    with LocalNodes(1, threads=2, workers_per_node=2, dashboard=None) as nodes:
        yield nodes._cluster, nodes.client


@contextmanager
def foreign(**options):
    """Lend two workers that declare nothing."""
    with (
        LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            dashboard_address="127.0.0.1:0",
            scheduler_kwargs={"dashboard": False},
            memory_limit=0,
            **options,
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield cluster, client


@pytest.mark.cluster
@pytest.mark.parametrize(
    "lend",
    [
        pytest.param(ours, id="ours"),
        pytest.param(foreign, id="foreign processes"),
        pytest.param(lambda: foreign(processes=False), id="one process"),
        pytest.param(lambda: foreign(processes=False, protocol="tcp"), id="one process, tcp"),
        pytest.param(lambda: foreign(host="localhost"), id="a host with a name"),
    ],
)
def test_all_sides_name_a_node_alike(lend):
    """What a task reports is what the scheduler decides on and what the driver counts."""
    with lend() as (cluster, client):
        states = cluster.scheduler.workers
        info = client.scheduler_info(n_workers=-1)["workers"]
        by_worker = {
            address: client.submit(_node, workers=[address], pure=False).result()
            for address in states
        }

        by_scheduler = {
            address: node_name(state.extra.get(NODE), state.host)
            for address, state in states.items()
        }
        by_driver = {
            address: node_name(worker.get(NODE), worker["host"]) for address, worker in info.items()
        }

    assert len(by_worker) == 2
    assert by_worker == by_scheduler == by_driver
    assert len(set(by_worker.values())) == 1
