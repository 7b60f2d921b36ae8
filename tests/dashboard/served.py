"""A real scheduler without workers whose dashboard has the page, for tests to visit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from distributed import LocalCluster

from sage_dask.dashboard.mount import mount


@contextmanager
def scheduler_with_dashboard(**options: Any) -> Iterator[LocalCluster]:
    """Lend a cluster of a scheduler alone, its dashboard on a free port of this machine."""
    with LocalCluster(
        n_workers=0,
        processes=False,
        protocol="tcp",
        host="127.0.0.1",
        dashboard_address="127.0.0.1:0",
        **options,
    ) as cluster:
        yield cluster


def mount_on(cluster: LocalCluster, monitor: Any) -> None:
    """Mount a monitor on the cluster's event loop."""

    async def on_loop() -> None:
        mount(cluster.scheduler, monitor)

    cluster.sync(on_loop)


def url(cluster: LocalCluster, page: str = "pipelines") -> str:
    """Return the address of a page of the dashboard."""
    return f"http://127.0.0.1:{cluster.scheduler.http_server.port}/{page}"
