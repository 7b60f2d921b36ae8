"""Orders on their way to a driver."""

from __future__ import annotations

import getpass

from sage_dask.scheduling.on_dask import orders
from sage_dask.scheduling.on_dask.orders import Order, hearing, who
from tests.scheduling.on_dask.live import until


def test_a_job_hears_its_own_orders_only(cluster, client):
    """In the order in which they were given."""
    heard = []
    with hearing(client, "rag/1", heard.append):
        until(cluster, lambda: cluster.scheduler._broker._topics["sage-dask-orders"].subscribers)
        for job, what in (("rag/1", "pause"), ("rag/2", "cancel"), ("rag/1", "resume")):
            Order(job, what, "a test").send(client.log_event)
        until(cluster, lambda: len(heard) == 2)

    assert heard == [Order("rag/1", "pause", "a test"), Order("rag/1", "resume", "a test")]


def test_somebody_without_a_name_gives_orders_too(monkeypatch):
    """Containers run under numbers that have none."""

    def nameless():
        raise OSError("No username set in the environment")

    monkeypatch.setattr(getpass, "getuser", nameless)
    monkeypatch.setattr(orders.socket, "gethostname", lambda: "head")

    assert who() == "somebody on head"
