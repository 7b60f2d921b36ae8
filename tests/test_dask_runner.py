"""Running on a Dask cluster: the window, the order, and what breaks."""

from __future__ import annotations

import importlib
import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from distributed import Client, Future, LocalCluster, SchedulerPlugin
from distributed.comm import CommClosedError

from sage_dask import (
    Collect,
    FromIterable,
    Operator,
    Pipeline,
    SourceItem,
    StopRun,
    dask_runner,
    worker,
)
from sage_dask.cluster import LocalNodes
from sage_dask.dask_runner import connected
from sage_dask.errors import RunError, SetupError
from sage_dask.scheduling.on_dask.control import SchedulerControl
from sage_dask.stage import Source
from sage_dask.window import REORDER_WINDOWS, WAVES_PER_THREAD


def small_cluster(n_workers=1, threads=1):
    """Return a cluster in this process."""
    return LocalCluster(
        n_workers=n_workers,
        threads_per_worker=threads,
        processes=False,
        resources={"LLM": 1},
        dashboard_address="127.0.0.1:0",
        scheduler_kwargs={"dashboard": False},
        memory_limit=0,
    )


@pytest.fixture(scope="module")
def cluster():
    """Lend one worker with one thread, so that what is served when is plain to see."""
    with small_cluster() as cluster:
        yield cluster


@pytest.fixture(scope="module")
def client(cluster):
    """Lend a client of that cluster."""
    with Client(cluster, set_as_default=False) as client:
        yield client


@pytest.fixture(scope="module")
def nodes():
    """Lend two worker processes, which may be killed."""
    with LocalNodes(2, dashboard=None) as nodes:
        yield nodes


class Counted(Source):
    """Numbers that tell how many of them were read."""

    def __init__(self, count):
        self.count, self.num_read = count, 0

    def read(self):
        for n in range(self.count):
            self.num_read += 1
            yield SourceItem(str(n), {"x": n})


def numbers(count):
    """Return a source of records {"x": 0}, {"x": 1}, ... called "0", "1", ..."""
    return FromIterable([{"id": n, "x": n} for n in range(count)], id="id")


def pipeline(source, *functions, sink=None):
    """Return a pipeline of maps."""
    declared = Pipeline("p").source(source).sink(sink or Collect())
    for function in functions or (dict,):
        declared = declared.map(function)
    return declared


class HoldFirst(Operator):
    """Keeps the first record until it is told to let go; in this process alone."""

    let_go = threading.Event()
    seen = {}  # noqa: RUF012 - shared on purpose, as the worker has a copy of the operator

    @classmethod
    def reset(cls):
        cls.let_go.clear()
        cls.seen.update({n: threading.Event() for n in range(100)})

    def process_batch(self, records):
        (record,) = records
        self.seen[record["x"]].set()
        if record["x"] == 0 and not self.let_go.wait(60):
            raise StopRun("the first record was never let go")
        return records


class Noted(Operator):
    """Notes the order in which records come by; in this process alone."""

    log = []  # noqa: RUF012 - shared on purpose, as the worker has a copy of the operator

    def __init__(self, name):
        self.name = name

    def process_batch(self, records):
        self.log.extend((self.name, record["x"]) for record in records)
        return records


class Broken(Operator):
    """Can not be made ready."""

    def setup(self):
        raise OSError("no model here")

    def process_batch(self, records):
        return records


class Absent(Operator):
    """Needs a module that no worker has."""

    def __reduce__(self):
        return importlib.import_module, ("no_such_module",)

    def process_batch(self, records):
        return records


def eventually(client, holds):
    """Return whether something comes to hold within a thousand round trips to the scheduler."""
    return any(client.run_on_scheduler(int) == 0 and holds() for _ in range(1000))


def ours(scheduler):
    """Return the tasks of sage_dask that a scheduler knows: those of jobs."""
    return [task for task in scheduler.tasks.values() if "sage" in (task.annotations or {})]


@pytest.mark.parametrize("ordered", [True, False])
def test_the_window_is_never_exceeded(client, ordered):
    """However slow the cluster, no more batches are read than the window and the write take."""
    source = Counted(60)
    ahead = []

    class Watched(Collect):
        def write(self, ids, records):
            ahead.append(source.num_read - len(self.ids))
            return super().write(ids, records)

    pipeline(source, sink=Watched()).run(client, batch_size=1, max_in_flight=4, ordered=ordered)

    assert source.num_read == 60
    # Written is what was read and is back, so the rest is in the window.
    assert max(ahead) == 4


def test_without_a_choice_the_window_is_a_few_batches_per_thread(client):
    """One thread gets the waves that keep it fed, and no more."""
    source = Counted(40)
    first_write = []

    class Watched(Collect):
        def write(self, ids, records):
            first_write.append(source.num_read)
            return super().write(ids, records)

    pipeline(source, sink=Watched()).run(client, batch_size=1)

    assert first_write[0] == WAVES_PER_THREAD


def test_batches_that_wait_for_an_earlier_one_are_bounded():
    """Ordered output behind one slow batch reads on for a few windows, and then waits for it."""
    source, sink, window = Counted(100), Collect(), 2
    bound = REORDER_WINDOWS * window
    held = pipeline(source, sink=sink).stage("hold", HoldFirst())
    with (
        small_cluster(threads=2) as cluster,
        Client(cluster, set_as_default=False) as client,
        ThreadPoolExecutor(1) as pool,
    ):
        HoldFirst.reset()
        run = pool.submit(held.run, client, batch_size=1, max_in_flight=window)

        assert HoldFirst.seen[bound - 1].wait(60)
        for _ in range(100):  # Long enough to read on, for a driver that would.
            client.run_on_scheduler(int)
        num_read = source.num_read
        HoldFirst.let_go.set()
        run.result()

    assert num_read == bound
    assert [record["x"] for record in sink.records] == list(range(100))


def test_batches_are_served_in_the_order_of_reading(client):
    """Dask takes first what came first, so that ordered output does not wait for the first."""
    sink = Collect()

    pipeline(numbers(120), sink=sink).run(client, batch_size=1, max_in_flight=30, ordered=False)

    assert [record["x"] for record in sink.records] == list(range(120))


@pytest.mark.parametrize("needs", [{}, {"LLM": 1}])
def test_a_batch_goes_through_before_later_ones_begin(client, needs):
    """The second task of an early batch is served before the first task of a late one.

    Tasks that need resources are all given to the worker at once, so it is their priority that
    decides.
    """
    Noted.log.clear()
    HoldFirst.reset()

    class LetGo(Counted):
        def read(self):
            yield from super().read()
            HoldFirst.let_go.set()  # All batches are on their way.

    (
        Pipeline("p")
        .source(LetGo(30))
        .stage("hold", HoldFirst(), resources=needs)
        .stage("one", Noted("one"), resources=needs)
        .stage("two", Noted("two"), resources=needs, fuse=False)
        .sink(Collect())
        .run(client, batch_size=1, max_in_flight=40)
    )

    # A task or two may be on the worker already when the next one becomes ready.
    assert Noted.log.index(("two", 0)) < Noted.log.index(("one", 5))


def test_nothing_is_left_on_the_scheduler(client, cluster):
    """Results are released as they are written, and the last of them with the run."""
    pipeline(numbers(50)).map(dict, fuse=False).run(client, batch_size=2)

    assert eventually(client, lambda: not ours(cluster.scheduler))


def test_every_task_tells_the_scheduler_what_it_claims(client, cluster):
    """Job, gates, share, and the priority of each batch's records arrive with the graph."""
    told = {}

    class Recorder(SchedulerPlugin):
        def update_graph(self, scheduler, *, annotations, **ignored):
            told.update(annotations["sage"])

    urgent = FromIterable([{"x": 0, "p": 5}, {"x": 1}, {"x": 2}])
    cluster.scheduler.add_plugin(Recorder(), name="recorder")
    try:
        pipeline(urgent).map(dict, name="ask", gates={"llm": 1}, priority=10).run(
            client,
            gates={"llm": 2},
            priority=100,
            weight=2,
            quota={"threads": 3},
            record_priority="p",
        )
    finally:
        cluster.scheduler.remove_plugin("recorder")

    asking = [claim for claim in told.values() if claim["stage"] == "ask"]
    assert [claim["priority"] for claim in asking] == [115.0, 110.0]
    assert len({claim.pop("job") for claim in asking}) == 1
    assert asking[0] == {
        "pipeline": "p",
        "stage": "ask",
        "priority": 115.0,
        "gates": {"llm": 1},
        "weight": 2.0,
        "quota": {"threads": 3},
    }


def test_operators_are_let_go_on_the_workers(client):
    """After a run, no worker holds an operator of it."""
    before = set(worker._executors)

    pipeline(numbers(5)).run(client)

    assert [worker._executors[each] for each in worker._executors.keys() - before] == [None]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
def test_an_interrupted_run_takes_its_tasks_back(client, cluster, error):
    """Ctrl-C, or an error in the user's own code, leaves no work behind on the cluster."""
    sink = Collect()

    def interrupt(progress):
        if progress.num_read:
            raise error

    # Kept: the error's frames hold on to whatever was not taken back.
    with pytest.raises(error) as told:
        pipeline(numbers(50), sink=sink).run(client, batch_size=1, observer=interrupt)

    assert sink.ids == ["0"]
    assert told.traceback
    assert eventually(client, lambda: not ours(cluster.scheduler))


def test_the_observer_hears_of_the_gates_that_the_job_uses(client):
    """As the scheduler knows them, other gates left out; at the end with what became of the job."""
    seen = []
    control = SchedulerControl(client)
    control.start()
    control.set_gate("others", 7)
    source = Pipeline("p").source(numbers(20))

    source.map(dict, gates={"llm": 1}).sink(Collect()).run(
        client, batch_size=1, gates={"llm": 2}, observer=seen.append
    )

    limits = [{name: gate.limit for name, gate in p.gates.items()} for p in seen if p.gates]
    assert limits
    assert all(each == {"llm": 2} for each in limits)
    assert [p.outcome for p in seen][-2:] == ["running", "done"]


def test_cancelled_tasks_end_the_run(client):
    """Someone who cancels our tasks gets an error, not a shorter output."""

    def cancel(progress):
        client.cancel([Future(key, client=client) for key in list(client.futures)], force=True)

    with pytest.raises(RunError, match=r"someone cancelled its tasks on .*; run again"):
        pipeline(numbers(50)).run(client, batch_size=1, observer=cancel)


def test_a_given_client_stays_open(client):
    """Two runs and the user's own work share one client."""
    pipeline(numbers(3)).run(client)
    pipeline(numbers(3)).run(client)

    assert client.submit(abs, -1, pure=False).result() == 1


def test_a_client_of_ours_is_closed(cluster, client):
    """An address is connected to for the run, and left afterwards."""
    report = pipeline(numbers(3)).run(cluster.scheduler_address)

    assert report.num_written == 3
    assert eventually(
        client, lambda: set(cluster.scheduler.clients) <= {client.id, "fire-and-forget"}
    )


def test_a_cluster_without_workers_is_refused():
    """Nothing would ever run there, so it is told with how to start a worker."""
    with (
        small_cluster(n_workers=0) as cluster,
        pytest.raises(RunError, match=r"has no workers; start some with 'dask worker"),
    ):
        pipeline(numbers(3)).run(cluster)


def test_the_report_names_machines_and_start_up(nodes):
    """Nodes, their threads and the seconds before the first record are in the report."""
    report = pipeline(numbers(3)).run(nodes)

    assert report.runner == "on 2 Dask nodes, 2 threads"
    assert list(report.nodes) == ["node-0", "node-1"]
    assert report.startup_s["cluster"] == nodes.startup_s
    assert report.setup_s == 0.0


def test_workers_of_one_node_are_counted_as_one():
    """Balance is over nodes, whoever started them: by declared name, else by host."""
    with LocalNodes(1, threads=2, workers_per_node=2, dashboard=None) as nodes:
        ours = pipeline(numbers(40)).run(nodes, batch_size=1)
    with small_cluster(n_workers=2) as cluster:
        foreign = pipeline(numbers(40)).run(cluster, batch_size=1)
        (host,) = {worker.host for worker in cluster.scheduler.workers.values()}

    assert ours.runner == foreign.runner == "on 1 Dask node (2 workers), 2 threads"
    assert (list(ours.nodes), list(foreign.nodes)) == (["node-0"], [host])
    assert ours.balance_of_records == foreign.balance_of_records == 1.0


def test_nodes_may_come_and_go_while_a_job_runs():
    """A node that is killed costs no record, and what a new one does is in the report."""
    sink, added = Collect(), []

    def change(progress):
        if not added:
            added.extend(nodes.add())
            nodes.remove("node-0", kill=True)
            nodes.remove("node-1")

    with LocalNodes(2, threads=2, workers_per_node=2, dashboard=None) as nodes:
        report = pipeline(numbers(100), sink=sink).run(nodes, batch_size=1, observer=change)

    assert added == ["node-2"]
    assert sink.ids == [str(n) for n in range(100)]
    assert report.nodes["node-2"].num_records > 0
    assert sum(node.num_records for node in report.nodes.values()) == 100


def test_a_set_up_that_fails_on_a_worker_ends_the_run_before_it_begins(client):
    """The stage and its error reach the caller, and the source was not read."""
    source = Counted(10)

    with pytest.raises(SetupError, match=r"stage 'broken': .*no model here"):
        pipeline(source).stage("broken", Broken()).run(client)

    assert source.num_read == 0


def test_a_module_that_workers_lack_is_told(nodes):
    """A program that a worker can not load names the worker, the module and the mend."""
    with pytest.raises(RunError, match=r"worker tcp://.*no_such_module.*must be installed there"):
        pipeline(numbers(3)).stage("absent", Absent()).run(nodes)


def test_a_result_that_can_not_be_read_here_ends_the_run(nodes):
    """A value that exists in a worker alone is an error of the run, not an endless wait."""

    def read_in(pid):
        import os

        if os.getpid() != pid:
            raise ImportError("only on its worker")

    class Local:
        def __reduce__(self):
            import os

            return read_in, (os.getpid(),)

    with pytest.raises(RunError, match="ImportError: only on its worker"):
        pipeline(numbers(3), lambda record: {"x": Local()}).run(nodes)


def test_a_crash_fails_its_record_alone(nodes):
    """A record that kills its worker takes nothing along: neither its batch, nor what waited."""
    sink = Collect()

    def crash(record):
        import os

        if record["x"] == 13:
            os._exit(1)
        return record

    report = pipeline(numbers(60), crash, sink=sink).run(nodes, batch_size=5)

    (failure,) = sink.failures
    assert (failure.id, failure.error) == ("13", "KilledWorker")
    assert failure.record == {"id": 13, "x": 13}
    assert sink.ids == [str(n) for n in range(60) if n != 13]
    assert (report.num_failed, report.num_written) == (1, 59)


def test_two_crashes_fail_two_batches(nodes):
    """Every suspect is tried alone, so that each culprit is found and no one else is blamed."""
    sink = Collect()

    def crash(record):
        import os

        if record["x"] in (3, 4):
            os._exit(1)
        return record

    pipeline(numbers(12), crash, sink=sink).run(nodes, batch_size=1)

    assert [failure.id for failure in sink.failures] == ["3", "4"]
    assert len(sink.ids) == 10


def test_a_node_that_is_killed_costs_no_record(nodes):
    """A node that dies for a reason of its own is replaced, and its batches run again."""
    sink = Collect()
    pids = list(nodes.client.run(os.getpid).values())
    killed = []

    def kill_once(progress):
        if not killed:
            killed.append(pids[0])
            os.kill(pids[0], signal.SIGKILL)

    report = pipeline(numbers(200), sink=sink).run(nodes, batch_size=2, observer=kill_once)

    assert killed
    assert (report.num_written, report.num_failed) == (200, 0)
    assert sink.ids == [str(n) for n in range(200)]


@pytest.mark.parametrize("address", ["nonsense://here", "127.0.0.1:http"])
def test_a_malformed_address_is_refused_before_a_client_is_begun(address, monkeypatch):
    """A client that meets it can not be closed, and would hang as the process ends."""
    begun = []

    class FakeClient:
        def __init__(self, address, **options):
            begun.append(address)
            raise ValueError(address)

    monkeypatch.setattr(dask_runner, "Client", FakeClient)

    with pytest.raises(RunError, match="no Dask scheduler answers at"), connected(address):
        pass

    assert begun == []


@pytest.mark.parametrize("num_left", [1, 0])
def test_a_worker_that_goes_while_others_are_made_ready_is_not_missed(
    client, monkeypatch, num_left
):
    """What is ready runs the pipeline; only where nothing is left does the run end, and says so."""
    answers = {"tcp://gone:1": CommClosedError("in <TCP>: closed")}
    answers |= dict.fromkeys([f"tcp://there:{n}" for n in range(num_left)], 0.1)
    monkeypatch.setattr(client, "run", lambda *arguments, **options: answers)
    sink = Collect()

    if not num_left:
        with pytest.raises(RunError, match=r"no worker of .* is left of 1; look into their logs"):
            pipeline(numbers(3), sink=sink).run(client)
    else:
        assert pipeline(numbers(3), sink=sink).run(client).num_written == 3
