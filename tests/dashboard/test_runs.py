"""Runs that are watched and ordered about, over a real connection."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager

import dask
import pytest
from distributed import Client

from sage_dask import Collect, FromIterable, Pipeline
from sage_dask.cli import exits
from sage_dask.dashboard.asking import snapshot_of
from sage_dask.dashboard.monitor import MonitorPlugin
from sage_dask.errors import JobCancelledError, RunError
from sage_dask.operators import ReadJsonl, WriteJsonl
from sage_dask.scheduling.on_dask.control import SchedulerControl
from sage_dask.scheduling.on_dask.remote import predecessor_of
from tests.scheduling.on_dask.live import PATIENCE_S, live_cluster, plugin_of, switch, until
from tests.scheduling.on_dask.live import SWITCHES as HELD

NUM_RECORDS = 40


@pytest.fixture
def cluster():
    """Lend two workers of one thread in this process, which nobody has used."""
    with live_cluster(threads=1) as cluster:
        yield cluster


@pytest.fixture
def client(cluster):
    """Lend a client of that cluster."""
    with Client(cluster, set_as_default=False) as client:
        yield client


def held(record):
    """Wait for the switch of this test, unless it is open."""
    HELD["run"].run()
    return record


def odd_fails(record):
    """Do half of the work."""
    if record["id"] % 4 == 1:
        raise ValueError("planted")
    return record


def numbers(sink=None):
    """Return a pipeline over numbers."""
    items = [{"id": n} for n in range(NUM_RECORDS)]
    return Pipeline("rag").source(FromIterable(items, id="id")).sink(sink or Collect())


def of_files(folder, function):
    """Return a pipeline from one file to another."""
    rows = "".join(json.dumps({"id": n}) + "\n" for n in range(NUM_RECORDS))
    (folder / "input.jsonl").write_text(rows)
    return (
        Pipeline("rag")
        .source(ReadJsonl(str(folder / "input.jsonl"), id="id"))
        .map(function)
        .sink(WriteJsonl(str(folder / "out.jsonl")))
    )


def monitor_of(cluster):
    """Return the monitor of a cluster whose scheduler is in this process."""
    return cluster.scheduler.plugins[MonitorPlugin.name]


def views(cluster):
    """Return the jobs as they are seen now."""
    host = predecessor_of(cluster.scheduler)
    paused = () if host is None else host.dispatcher.jobs.paused
    return monitor_of(cluster).board.jobs(0.0, paused)


@contextmanager
def running(pipeline, client, **options):
    """Run a pipeline in a thread; lend what becomes of it."""
    ended = {}

    def run():
        try:
            ended["report"] = pipeline.run(client, batch_size=2, **options)
        except RunError as error:
            ended["error"] = error

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield ended
    finally:
        thread.join(PATIENCE_S)
        assert not thread.is_alive()


def job_under_way(cluster, held_up):
    """Return the name of the job that runs, once tasks of it do."""
    until(cluster, lambda: held_up.num_running == 2)
    until(cluster, lambda: MonitorPlugin.name in cluster.scheduler.plugins and views(cluster))
    (view,) = views(cluster)
    return view.name


def heard(cluster):
    """Wait until the driver would hear an order."""
    topics = cluster.scheduler._broker._topics
    until(cluster, lambda: topics["sage-dask-orders"].subscribers)


@pytest.mark.parametrize("policy", ["spread", "dask"])
def test_the_final_board_is_the_report(cluster, client, policy):
    """Number for number, whoever places the tasks."""
    report = numbers().map(odd_fails).run(client, batch_size=3, policy=policy)

    (view,) = views(cluster)
    assert view.progress.report == report
    assert (view.name, view.state) == (f"rag/{report.job}", "done")
    counts = (view.progress.num_read, view.progress.num_written, view.progress.num_failed)
    assert counts == (40, 30, 10) == (report.num_read, report.num_written, report.num_failed)
    assert sum(view.progress.latencies.values()) == report.latency.num_records == 30
    assert monitor_of(cluster).num_errors == 0


def test_a_run_that_failed_is_seen_with_its_error(cluster, client):
    """It is over, and its message is what the user was told."""
    with pytest.raises(RunError, match="records failed"):
        numbers().map(odd_fails).run(client, batch_size=2, max_errors=1)

    (view,) = views(cluster)
    assert (view.state, view.is_over) == ("TooManyFailuresError", True)
    assert "records failed" in view.progress.report.message


def test_a_paused_job_stands_still_and_goes_on_when_it_is_resumed(cluster, client, tmp_path):
    """Its driver says why, and the output is whole."""
    control, notes = SchedulerControl(client), []

    def note(progress):
        notes.append(progress.notes)

    with switch("run") as held_up:
        pipeline = of_files(tmp_path, held)
        with running(pipeline, client, run_dir=tmp_path / "run", observer=note) as ended:
            name = job_under_way(cluster, held_up)
            heard(cluster)
            control.pause(name)
            until(cluster, lambda: any("paused by" in note for told in notes for note in told))
            held_up.opened.set()
            core = plugin_of(cluster).dispatcher
            until(cluster, lambda: not core.ledger.running)
            started = held_up.num_started
            (while_paused,) = views(cluster)
            control.resume(name)

    assert while_paused.state == "paused"
    assert started < NUM_RECORDS
    assert ended["report"].num_written == NUM_RECORDS
    written = [json.loads(line)["id"] for line in (tmp_path / "out.jsonl").open()]
    assert written == list(range(NUM_RECORDS))
    assert notes[-1] == ()
    assert core.jobs.paused == set()


@pytest.mark.parametrize("policy", ["spread", "dask"])
def test_a_cancelled_job_ends_at_once_and_may_be_resumed(cluster, client, tmp_path, policy):
    """What is under way is not waited for; what is done is kept, and the rest follows."""
    control = SchedulerControl(client)
    pipeline = of_files(tmp_path, held)
    options = {"run_dir": tmp_path / "run", "policy": policy}
    with switch("run") as held_up, running(pipeline, client, **options) as ended:
        name = job_under_way(cluster, held_up)
        heard(cluster)
        control.cancel(name)
        until(cluster, lambda: ended or views(cluster)[0].is_over)
        (cancelled,) = views(cluster)
        never_opened = not held_up.opened.is_set()
        held_up.opened.set()
    with switch("run") as open_now:
        open_now.opened.set()
        report = pipeline.run(client, batch_size=2, **options)

    error = ended["error"]
    assert isinstance(error, JobCancelledError)
    assert f"job {name!r} was cancelled by" in str(error)
    assert "safe in" in error.__notes__[0]
    assert exits.code_of(error) == exits.CANCELLED
    assert (cancelled.state, never_opened) == ("JobCancelledError", True)
    assert (report.num_starts, report.num_written) == (2, NUM_RECORDS)
    written = [json.loads(line)["id"] for line in (tmp_path / "out.jsonl").open()]
    assert written == list(range(NUM_RECORDS))


def test_orders_to_other_jobs_are_not_obeyed(cluster, client):
    """Each driver hears all of them."""
    control = SchedulerControl(client)
    with switch("run") as held_up, running(numbers().map(held), client) as ended:
        name = job_under_way(cluster, held_up)
        heard(cluster)
        control.cancel(f"{name}0")
        control.cancel("rag")
        held_up.opened.set()

    assert ended["report"].num_written == NUM_RECORDS


def test_a_run_may_go_unobserved(cluster, client):
    """One switch turns all of it off: no monitor, no news, no waits of tasks."""
    with dask.config.set({"sage.observe": False}):
        report = numbers().map(dict).run(client, batch_size=2)

    assert report.num_written == NUM_RECORDS
    assert MonitorPlugin.name not in cluster.scheduler.plugins
    plugins = client.run(lambda dask_worker: list(dask_worker.plugins))
    assert not any("sage-dask-arrivals" in names for names in plugins.values())
    with pytest.raises(RunError, match="shows no jobs of sage_dask"):
        snapshot_of(client)


def test_a_scheduler_that_can_not_show_jobs_runs_them_all_the_same(cluster, client, monkeypatch):
    """Observing must not end runs; the driver's log says why nobody sees this one."""

    async def refuse(self, scheduler):
        raise RuntimeError("planted")

    monkeypatch.setattr(MonitorPlugin, "start", refuse)

    report = numbers().map(dict).run(client, batch_size=2)

    assert report.num_written == NUM_RECORDS
    assert MonitorPlugin.name not in cluster.scheduler.plugins


def test_clients_see_what_the_scheduler_does(cluster, client):
    """A snapshot travels."""
    report = numbers().map(dict).run(client, batch_size=2)

    snapshot = snapshot_of(client)

    assert [job.name for job in snapshot.jobs] == [f"rag/{report.job}"]
    assert sum(node.num_workers for node in snapshot.nodes) == 2
    assert snapshot.scheduling.policy == "spread"
