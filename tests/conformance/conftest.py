"""What runs the pipelines of the suites: this process, or a Dask cluster."""

from __future__ import annotations

import pytest
from distributed import Client, LocalCluster


@pytest.fixture(scope="module")
def cluster_client():
    """Two workers of two threads, in this process: no claim here needs processes."""
    with (
        LocalCluster(
            n_workers=2,
            threads_per_worker=2,
            processes=False,
            dashboard_address=None,
            resources={"LLM": 2},
            memory_limit=0,
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


@pytest.fixture(params=["local", "dask"])
def on(request):
    """What to run on: this process, or a Dask client."""
    return None if request.param == "local" else request.getfixturevalue("cluster_client")
