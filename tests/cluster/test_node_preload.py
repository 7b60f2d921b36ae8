"""What a worker does as it starts: it declares its node, and leaves Ctrl-C to the driver."""

from __future__ import annotations

import signal

import dask
import pytest
from distributed import Client, LocalCluster

from sage_dask.cluster import node_preload


def launch(**options):
    """Return a cluster of one worker that another launcher than ours would start."""
    return LocalCluster(
        n_workers=1,
        threads_per_worker=1,
        preload=[node_preload.__name__],
        dashboard_address="127.0.0.1:0",
        scheduler_kwargs={"dashboard": False},
        memory_limit=0,
        **options,
    )


def told(cluster):
    """Return what the scheduler was told of the only worker."""
    (worker,) = cluster.scheduler.workers.values()
    return worker.extra


@pytest.mark.cluster
@pytest.mark.parametrize(("value", "name"), [("rack1-a", "rack1-a"), ("7", "7")])
def test_any_launcher_can_declare_a_node(value, name):
    """An environment variable and a preload are all that it takes."""
    with launch(env={"DASK_SAGE__NODE": value}) as cluster:
        (worker,) = cluster.scheduler.workers.values()

        assert worker.extra == {"node": name}
        assert worker.identity()["node"] == name


def test_nothing_is_declared_without_a_name():
    """A launcher that names no node leaves the choice to the host."""
    with launch(processes=False) as cluster:
        assert told(cluster) == {}


class FakeWorker:
    """As much of a worker as the preload touches: started by hand, without a nanny."""

    nanny = None

    def __init__(self):
        self.startup_information = {}


def test_a_worker_without_a_nanny_can_be_interrupted():
    """Ctrl-C may be the only way to stop it, so the signal is left as it was."""
    before = signal.getsignal(signal.SIGINT)

    try:
        node_preload.dask_setup(FakeWorker())
        after = signal.getsignal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)

    assert after is before


def test_a_worker_in_a_thread_declares_its_node():
    """Only a main thread may set signals, and a cluster in one process has none to spare."""
    with dask.config.set({"sage.node": "here"}), launch(processes=False) as cluster:
        assert told(cluster) == {"node": "here"}


@pytest.mark.cluster
def test_a_worker_with_a_nanny_leaves_ctrl_c_to_the_driver():
    """The nanny's launcher stops it, so an interrupt of the terminal must not."""

    def handler():
        return signal.getsignal(signal.SIGINT) == signal.SIG_IGN

    with launch() as cluster, Client(cluster, set_as_default=False) as client:
        assert list(client.run(handler).values()) == [True]
