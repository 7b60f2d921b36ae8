"""``sage-dask jobs``: the jobs of a cluster from outside."""

from __future__ import annotations

import json

import pytest
from distributed import Client, LocalCluster

from sage_dask.cli.jobs import job_named
from sage_dask.dashboard.board import JobView
from sage_dask.dashboard.monitor import MonitorPlugin
from sage_dask.errors import PlanError
from sage_dask.scheduling.on_dask.control import SchedulerControl
from sage_dask.scheduling.on_dask.remote import predecessor_of
from tests.dashboard.news import news, progress


@pytest.fixture(scope="module")
def cluster():
    """One worker in this process, reached as a cluster of its own would be."""
    with LocalCluster(
        n_workers=1,
        threads_per_worker=1,
        processes=False,
        protocol="tcp",
        host="127.0.0.1",
        dashboard_address=None,
    ) as cluster:
        yield cluster


@pytest.fixture
def monitor(cluster):
    """Lend a fresh monitor beside a dispatcher, with a job that runs and one that ended."""
    with Client(cluster, set_as_default=False) as client:
        client.register_plugin(MonitorPlugin())
        control = SchedulerControl(client)
        control.start()
        monitor = cluster.scheduler.plugins[MonitorPlugin.name]
        told = news(30, expected=40, num_written=29, num_failed=1, notes=("server is down",))
        monitor.hear("rag/1a2b", client.id, told)
        monitor.hear("rag/0000", client.id, news(40, expected=40, outcome="done"))
        yield monitor
        control.detach()
        client.unregister_scheduler_plugin(MonitorPlugin.name)
        del cluster.scheduler.handlers["sage_dask_snapshot"]


@pytest.fixture
def jobs(cluster, cli):
    """Lend a function that calls ``sage-dask jobs`` for the cluster."""
    return lambda *words: cli("jobs", *words, "--scheduler", cluster.scheduler_address)


def paused(cluster):
    """Return the jobs that are paused."""
    return set(predecessor_of(cluster.scheduler).dispatcher.jobs.paused)


def ordered(cluster):
    """Return the orders to drivers so far."""
    events = cluster.scheduler.get_events("sage-dask-orders")
    return [(said["job"], said["what"]) for _, said in events]


def test_jobs_are_listed_those_that_run_first(jobs, monitor):
    """With how far they are, and what holds them up."""
    result = jobs("list")

    assert result.exit_code == 0, result.stderr
    assert result.stdout.splitlines() == [
        "rag/1a2b  running  30/40 records, 1 failed, 0.0/s",
        "    server is down",
        "rag/0000  done  40/40 records",
    ]


def test_jobs_are_listed_for_programs(jobs, monitor):
    """As strict JSON."""
    running, ended = json.loads(jobs("list", "--json").stdout)

    assert (running["name"], running["state"], running["eta_s"]) == ("rag/1a2b", "running", None)
    assert (running["num_read"], running["num_failed"], running["expected"]) == (30, 1, 40)
    assert ended["state"] == "done"


def test_a_job_is_paused_and_resumed_by_a_part_of_its_name(jobs, monitor, cluster):
    """Whether the dashboard may or not."""
    first = jobs("pause", "1a")
    while_paused = paused(cluster)
    second = jobs("resume", "rag/1a2b")

    assert first.exit_code == second.exit_code == 0, first.stderr + second.stderr
    assert "'rag/1a2b' is paused" in first.stderr
    assert "sage-dask jobs resume rag/1a2b --scheduler " in first.stderr
    assert (while_paused, paused(cluster)) == ({"rag/1a2b"}, set())
    assert ordered(cluster)[-2:] == [("rag/1a2b", "pause"), ("rag/1a2b", "resume")]


def test_a_job_is_cancelled(jobs, monitor, cluster):
    """Its driver is told, and nobody else."""
    result = jobs("cancel", "rag")

    assert result.exit_code == 0, result.stderr
    assert ordered(cluster)[-1] == ("rag/1a2b", "cancel")


def test_a_job_that_does_not_run_is_a_usage_error(jobs, monitor):
    """The answer names those that do."""
    result = jobs("cancel", "0000")

    assert result.exit_code == 2
    assert "no job that runs has '0000' in its name; there are 'rag/1a2b'" in result.stderr


def test_a_cluster_that_saw_no_job_says_so(jobs):
    """And how jobs are shown from the first."""
    result = jobs("list")

    assert result.exit_code == 1
    assert "--preload sage_dask.preload" in result.stderr


def test_a_part_of_a_name_must_mean_one_job():
    """A whole name means itself, though it may be part of another."""
    views = [
        JobView(name, "running", progress(), 0.0, None, 0.0, ())
        for name in ("rag/1", "rag/12", "index/3")
    ]

    assert job_named("rag/1", views) == "rag/1"
    assert job_named("dex", views) == "index/3"
    with pytest.raises(PlanError, match="'rag' could be any of 'rag/1', 'rag/12'; say more"):
        job_named("rag", views)
