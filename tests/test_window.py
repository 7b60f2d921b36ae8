"""Batches on their way through a cluster that stands still, or is lost."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from contextlib import ExitStack, contextmanager
from queue import SimpleQueue
from types import SimpleNamespace
from typing import ClassVar

import pytest
from distributed import Client, KilledWorker, LocalCluster
from distributed.comm import CommClosedError

from sage_dask import Collect, FromIterable, Pipeline
from sage_dask.errors import JobCancelledError, SchedulerLostError
from sage_dask.job import Job
from sage_dask.journal.lock import holder
from sage_dask.operators import Generate, ReadJsonl, WriteJsonl
from sage_dask.options import Machines, RunOptions
from sage_dask.record import Batch
from sage_dask.scheduling.on_dask.control import SchedulerControl
from sage_dask.scheduling.on_dask.orders import Order
from sage_dask.scheduling.servers import ServerStatistics
from sage_dask.scheduling.statistics import Load
from sage_dask.watchdog import StalledError
from sage_dask.window import Window
from sage_dask.worker import make_program

HERE = Machines("in a test", ["n0"], 2)


@pytest.fixture(scope="module")
def client():
    """Lend a client of a cluster in this process."""
    options = {"n_workers": 2, "threads_per_worker": 1, "processes": False, "memory_limit": 0}
    with (
        LocalCluster(dashboard_address=None, **options) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield client


def pipeline(folder, **needs):
    """Return a pipeline of a file of forty records."""
    rows = "".join(json.dumps({"id": str(n)}) + "\n" for n in range(40))
    (folder / "input.jsonl").write_text(rows)
    return (
        Pipeline("p")
        .source(ReadJsonl(str(folder / "input.jsonl"), id="id"))
        .map(dict, **needs)
        .sink(WriteJsonl(str(folder / "out.jsonl")))
    )


def written(folder):
    """Return the numbers of the records that were written."""
    return [json.loads(line)["id"] for line in (folder / "out.jsonl").open()]


def test_a_run_that_stands_still_ends_with_the_reason_and_goes_on(client, tmp_path):
    """A gate that was closed is named; opened again, the same call comes to the end."""
    control = SchedulerControl(client)
    gated = pipeline(tmp_path, gates={"llm": 1})
    options = {"gates": {"llm": 2}, "run_dir": tmp_path / "run", "batch_size": 2}

    def close(progress):
        control.set_gate("llm", 0)

    with pytest.raises(StalledError, match=r"no progress for .*gate 'llm'") as told:
        gated.run(client, observer=close, max_stall_s=0.5, **options)
    report = gated.run(client, **options)
    control.detach()

    assert "safe in" in told.value.__notes__[0]
    assert (report.num_starts, report.num_written) == (2, 40)
    assert written(tmp_path) == [str(n) for n in range(40)]


class Nudges(SimpleQueue):
    """News that never end, and none of them is a batch."""

    def get(self, timeout=None):
        """Bring a nudge at once."""


class SilentClient:
    """Takes every batch and gives none back."""

    status = "running"
    scheduler = SimpleNamespace(address="tcp://here:1")
    loop = SimpleNamespace(add_callback=lambda *call: None)

    def get(self, graph, key, **options):
        """Return something that stands for a future."""
        return Kept(key=key)

    def sync(self, *question, **options):
        """Refuse to answer."""
        raise OSError("silent")

    _run_on_scheduler = None

    def cancel(self, futures):
        """Forget what never comes."""


class Kept:
    """A future in name."""

    status = "pending"

    def __init__(self, key):
        self.key = key

    def release(self):
        """Let go of nothing."""


@contextmanager
def window_of(client, news, publish=lambda: None):
    """Lend the window of a job that has started, and that may not stand still at all."""
    options = RunOptions(max_stall_s=1e-9)
    with job_of(options) as job:
        yield Window(client, job, programs_of(job), news, options, publish)


@contextmanager
def job_of(options, **more):
    """Lend a job of three records that has started."""
    declared = Pipeline("p").source(FromIterable({"n": n} for n in range(3))).map(dict)
    with Job(declared.sink(Collect()).plan(batch_size=3), options, HERE, **more) as job:
        job.start({})
        yield job


def asking(endpoint):
    """Return a pipeline that asks a model server."""
    generate = Generate(endpoint=endpoint, model="m")
    source = FromIterable([{"prompt": "a"}])
    return Pipeline("p").source(source).stage("generate", generate).sink(Collect())


def programs_of(job):
    """Return what the tasks of a job run."""
    return {task.name: make_program(task, job="p/1") for task in job.plan.stages}


def test_nudges_are_no_progress():
    """Servers that tell of themselves all the time keep no run alive that stands still."""
    with (
        window_of(SilentClient(), Nudges()) as window,
        pytest.raises(StalledError, match=r"the scheduler can not say why \(OSError"),
    ):
        window.run()


class PausedNudges(SimpleQueue):
    """Nudges, of which the sixth comes as the window's job is resumed."""

    window = None
    num_nudges = 0

    def get(self, timeout=None):
        """Bring a nudge at once."""
        self.num_nudges += 1
        if self.num_nudges == 6:
            self.window.obey(Order("p/1", "resume", "a test"))


def test_a_pause_is_no_standstill():
    """A job that may not stand still at all does while it is paused, and not a moment longer."""
    news = PausedNudges()
    with window_of(SilentClient(), news) as window:
        news.window = window
        window.obey(Order("p/1", "pause", "a test"))
        with pytest.raises(StalledError):
            window.run()

    assert news.num_nudges == 6


def test_a_cancelled_job_gives_up_what_is_under_way():
    """The error says who it was; the scheduler is told to forget the batches."""

    class Forgetting(SilentClient):
        cancelled = ()

        def cancel(self, futures):
            self.cancelled = futures

    client = Forgetting()
    with window_of(client, SimpleQueue()) as window:
        window.obey(Order("p/1", "cancel", "a test"))
        with pytest.raises(JobCancelledError, match="was cancelled by a test; with a run folder"):
            window.run()

    assert client.cancelled


def test_an_observer_may_wait_for_the_client():
    """What the client's loop brings meanwhile is taken without a wait, and noted by the driver."""
    endpoint, told, was_taken = "http://gpu-0/v1", [], []
    server = ServerStatistics(4, True, 0, 4, None, None, "found", down_s=12.0)

    def bring():
        window.observe_load(Load(servers={endpoint: server}))
        window.obey(Order("p/1", "pause", "a test"))

    def observe(progress):
        told.append(progress.notes)
        if progress.notes == ("begin",):
            loop = threading.Thread(target=bring, daemon=True)
            loop.start()
            loop.join(10)
            was_taken.append(not loop.is_alive())
            job.note("test", None)

    news, options = PausedNudges(), RunOptions(max_stall_s=1e-9, observer=observe)
    with Job(asking(endpoint).plan(), options, HERE) as job:
        job.start({})
        window = news.window = Window(SilentClient(), job, programs_of(job), news, options)
        job.note("test", "begin")
        with pytest.raises(StalledError):
            window.run()

    assert was_taken == [True]
    assert any("is down for 12 s" in note for notes in told for note in notes)
    assert any("paused by a test" in note for notes in told for note in notes)


def test_a_window_tells_those_who_watch_at_every_turn():
    """At its start, too, when there is nothing to take yet."""
    told, news = [], Nudges()
    with (
        window_of(SilentClient(), news, lambda: told.append(True)) as window,
        pytest.raises(StalledError),
    ):
        window.run()

    assert len(told) == 2


def test_a_connection_that_broke_while_results_were_fetched_is_a_lost_scheduler():
    """The client may take itself for connected still; nobody is told that a task broke."""
    news = SimpleQueue()

    class Dying(SilentClient):
        def get(self, graph, key, **options):
            future = super().get(graph, key, **options)
            news.put((future, CommClosedError("Stream is closed"), 0.0))
            return future

    with (
        window_of(Dying(), news) as window,
        pytest.raises(SchedulerLostError, match="scheduler tcp://here:1 is gone"),
    ):
        window.run()


def test_what_a_dead_worker_cost_its_batch_is_lost_and_no_admission():
    """Also the time until each half of the suspect ran again."""
    now = SimpleNamespace(s=0.0)

    class Killing(SilentClient):
        results: ClassVar = [
            KilledWorker("t", SimpleNamespace(address="tcp://a:1"), 0),
            Batch(0, ["1", "2"], [{"n": 0}, {"n": 1}]),
            Batch(0, ["3"], [{"n": 2}]),
        ]

        def get(self, graph, key, **options):
            """Take a second to submit, and four until the result is back."""
            now.s += 1.0
            future = super().get(graph, key, **options)
            news.put((future, self.results.pop(0), now.s + 4.0))
            return future

    class Later(SimpleQueue):
        def get(self, timeout=None):
            """Bring what is back two seconds later."""
            told = super().get(timeout=timeout)
            now.s = told[2] + 2.0
            return told

    news, options = Later(), RunOptions()
    with job_of(options, clock=lambda: now.s) as job:
        Window(Killing(), job, programs_of(job), news, options).run()
        breakdown = job.finish().breakdown

    parts = {part.name: part.seconds for part in breakdown.parts if part.seconds}
    assert parts == {"admission": 1.0, "lost": 6.0, "dask": 8.0, "return": 6.0}


@contextmanager
def separate_cluster(folder):
    """Lend the scheduler's process and its address, with a worker in another process."""
    where = folder / "scheduler.json"
    words = ["--scheduler-file", str(where), "--no-dashboard"]
    with ExitStack() as undo:

        def start(module, *more):
            command = [sys.executable, "-m", f"distributed.cli.{module}", *words, *more]
            process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
            undo.callback(end, process)
            return process

        scheduler = start("dask_scheduler", "--host", "127.0.0.1", "--port", "0")
        worker = start("dask_worker", "--no-nanny", "--host", "127.0.0.1")
        assert any("Registered to" in line for line in worker.stderr)
        yield scheduler, json.loads(where.read_text())["address"]


def end(process):
    """End a process, whatever it does."""
    process.kill()
    process.communicate()


@pytest.mark.cluster
def test_a_run_whose_scheduler_died_goes_on_elsewhere(client, tmp_path):
    """The error says so, the folder is free, and another cluster does what was not safe."""
    options = {"run_dir": tmp_path / "run", "batch_size": 2, "max_in_flight": 4}

    with separate_cluster(tmp_path) as (scheduler, address):

        def kill(progress):
            scheduler.send_signal(signal.SIGKILL)

        with pytest.raises(SchedulerLostError, match=f"scheduler {address} is gone") as told:
            pipeline(tmp_path).run(address, observer=kill, **options)
    is_free = holder(tmp_path / "run") is None
    report = pipeline(tmp_path).run(client, **options)

    assert is_free
    assert "safe in" in told.value.__notes__[0]
    assert (report.num_starts, report.num_written) == (2, 40)
    assert written(tmp_path) == [str(n) for n in range(40)]
