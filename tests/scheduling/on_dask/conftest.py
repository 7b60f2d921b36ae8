"""A cluster in this process and a client of it; a module may lend another cluster."""

from __future__ import annotations

import pytest
from distributed import Client

from tests.scheduling.on_dask.live import live_cluster


@pytest.fixture(scope="module")
def cluster():
    """Lend two workers in this process."""
    with live_cluster() as cluster:
        yield cluster


@pytest.fixture
def client(cluster):
    """Lend a client of that cluster."""
    with Client(cluster, set_as_default=False) as client:
        yield client
