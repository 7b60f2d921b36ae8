"""A driver that is killed: what the scheduler shows of its job."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from sage_dask.cluster import LocalNodes
from sage_dask.dashboard.monitor import MonitorPlugin
from tests.scheduling.on_dask.live import until

_DRIVER = Path(__file__).with_name("driver.py")


@pytest.mark.cluster
def test_a_job_whose_driver_is_killed_is_lost():
    """As soon as Dask knows that the connection is gone."""
    with LocalNodes(1, dashboard=None) as nodes:
        cluster = nodes._cluster
        plugins = cluster.scheduler.plugins

        def states():
            monitor = plugins.get(MonitorPlugin.name)
            return [] if monitor is None else [view.state for view in monitor.board.jobs(0.0)]

        command = [sys.executable, str(_DRIVER), cluster.scheduler_address]
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as driver:
            try:
                until(cluster, states)
                before = states()
            finally:
                driver.kill()
        until(cluster, lambda: states() != before)

        assert (before, states()) == (["running"], ["lost"])
