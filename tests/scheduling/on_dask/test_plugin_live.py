"""The plugin under real workers: what only they can show."""

from __future__ import annotations

import logging
import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from distributed import Client, Reschedule, Worker, get_worker

from sage_dask import Collect, FromIterable, Pipeline
from sage_dask.cluster import LocalNodes
from sage_dask.errors import PolicyError, RunError
from sage_dask.scheduling.on_dask.settings import Settings
from tests.scheduling.on_dask.live import (
    PATIENCE_S,
    control_of,
    live_cluster,
    plugin_of,
    run_until_opened,
    submit,
    switch,
    until,
)
from tests.scheduling.on_dask.plugged import LostPolicy, RaisingPolicy


@pytest.fixture
def control(client):
    """Lend a dispatcher with a gate of one slot, detached when the test is over."""
    with control_of(client, Settings("fifo", gates={"llm": 1})) as control:
        yield control


def pipeline(name, sink, number=200):
    """Return a pipeline over numbers that does next to nothing."""
    items = [{"n": n} for n in range(number)]
    return Pipeline(name).source(FromIterable(items)).map(dict, name="copy").sink(sink)


# --- runs and their ends


def test_a_cancelled_task_keeps_its_slot_until_it_ends(cluster, client, control):
    """The next one starts when the first call is over, and never beside it."""
    core = plugin_of(cluster).dispatcher
    with switch("cancelled") as held:
        first = submit(client, run_until_opened, "cancelled", key="gone", gates={"llm": 1})
        until(cluster, lambda: held.num_running == 1)
        second = submit(client, run_until_opened, "cancelled", key="next", gates={"llm": 1})
        first.cancel()
        until(cluster, lambda: core.ledger.abandoned)
        until(cluster, lambda: len(core.queue) == 1)
        watch = plugin_of(cluster).watch
        until(cluster, lambda: watch._asking is not None and watch._asking.done())

        while_running = (core.gates["llm"].held, len(core.queue))
        held.opened.set()

        assert second.result(timeout=PATIENCE_S) == "cancelled"
        assert while_running == (1, 1)
        assert held.most_running == 1
        until(cluster, lambda: core.gates["llm"].held == 0)


def fail_once(path):
    """Fail the first time."""
    if not path.exists():
        path.touch()
        raise ValueError("planted")
    return "second"


def reschedule_once(path):
    """Give the first run back."""
    if not path.exists():
        path.touch()
        raise Reschedule
    return "second"


@pytest.mark.parametrize("work", [fail_once, reschedule_once])
def test_a_run_that_is_repeated_is_over_for_us_at_once(cluster, client, control, tmp_path, work):
    """A real worker's words for its end are those that we know."""
    core = plugin_of(cluster).dispatcher
    abandoned = []
    core.task_abandoned, keep = lambda key, now_s: abandoned.append(key), core.task_abandoned

    future = submit(client, work, tmp_path / "tried", key="again", gates={"llm": 1}, retries=1)

    assert future.result(timeout=PATIENCE_S) == "second"
    core.task_abandoned = keep
    assert abandoned == []
    assert core.gates["llm"].held == 0


class Counter:
    """An actor."""


def test_an_actor_stays_with_dask(cluster, client, control):
    """It is neither held nor counted, though it is annotated."""
    future = submit(client, Counter, key="actor", actor=True)
    future.result(timeout=PATIENCE_S)

    assert cluster.scheduler.tasks["actor"].actor
    assert control.statistics().num_decisions == 0


def where(_):
    """Return the name of the worker."""
    return get_worker().name


def test_a_worker_that_joins_under_load_gets_work(cluster, client, control):
    """What waits goes there, and it is sent home again without a loss."""
    with switch("joining") as held:
        blockers = [submit(client, run_until_opened, "joining", key=f"b-{n}") for n in range(4)]
        until(cluster, lambda: held.num_running == 4)
        waiting = [submit(client, where, n, key=f"w-{n}") for n in range(5)]
        until(cluster, lambda: len(plugin_of(cluster).dispatcher.queue) == 5)

        async def join():
            return await Worker(cluster.scheduler_address, nthreads=1, name="late")

        late = cluster.sync(join)
        names = client.gather(waiting)
        client.retire_workers([late.address])
        held.opened.set()
        client.gather(blockers)
        cluster.sync(late.close)

    assert names == ["late"] * 5
    assert control.statistics().num_running == 0


# --- pipelines


@pytest.mark.parametrize("policy", ["fifo", "round-robin", "spread", "pack", "priority"])
def test_a_pipeline_runs_under_every_policy(client, control, policy):
    """All records come out, in order."""
    sink = Collect()

    pipeline("any", sink).run(client, policy=policy, batch_size=3)

    assert [record["n"] for record in sink.records] == list(range(200))
    assert control.policy == policy


@pytest.mark.parametrize(
    ("policy", "says"), [(RaisingPolicy(), 'raise KeyError("planted")'), (LostPolicy(), "atlantis")]
)
def test_a_bad_policy_ends_the_run_and_a_good_one_mends_it(client, control, policy, says):
    """The run raises what the policy did, with its traceback; the next one is as ever."""
    with pytest.raises(PolicyError) as told:
        pipeline("bad", Collect()).run(client, policy=policy, batch_size=3)
    sink = Collect()
    pipeline("good", sink).run(client, policy="spread", batch_size=3)

    assert repr(policy.name) in str(told.value)
    assert says in str(told.value)
    assert len(sink.records) == 200


def test_with_fallback_a_run_completes_and_the_driver_is_told(client, cluster, control, caplog):
    """The notice is in the log of sage_dask, in the process that runs the pipeline."""
    control.set_policy("fifo", on_policy_error="fallback")
    sink = Collect()

    with caplog.at_level(logging.WARNING, "sage_dask"), switch("fallback") as held:

        def tell_when_told(record):
            run_until_opened("fallback")
            return record

        items = FromIterable([{"n": 1}, {"n": 2}])
        run = Pipeline("fallback").source(items).map(tell_when_told, name="wait").sink(sink)
        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(run.run, client, policy=RaisingPolicy(), batch_size=1)
            until(cluster, lambda: "policy 'raising' raised KeyError" in caplog.text)
            held.opened.set()
            running.result()

    assert len(sink.records) == 2
    assert control.policy == "fifo"


@pytest.mark.parametrize("event", ["dispatch", "task_ready", "task_ended", "job_arrived"])
def test_a_broken_dispatcher_ends_the_run_loudly(cluster, client, control, event):
    """It names the fault and asks for a report; the next run is as ever."""

    def planted(*args, **kwargs):
        raise ZeroDivisionError("planted")

    setattr(plugin_of(cluster).dispatcher, event, planted)
    with pytest.raises(RunError, match="ZeroDivisionError: planted"):
        # More batches than the window has room for, so that some come after the fault.
        pipeline("broken", Collect(), 3000).run(client, policy="fifo", batch_size=1)
    until(cluster, lambda: not plugin_of(cluster).is_broken)
    sink = Collect()
    pipeline("good", sink).run(client, policy="spread", batch_size=3)

    assert len(sink.records) == 200


def test_two_clients_run_pipelines_side_by_side(cluster, client, control):
    """Each gets its own records, in order, whatever the other does."""
    sinks = [Collect() for _ in range(2)]

    with Client(cluster, set_as_default=False) as other, ThreadPoolExecutor(2) as pool:
        runs = [
            pool.submit(
                pipeline(f"side-{n}", sink, 400).run, on, policy=None, batch_size=2, weight=n + 1
            )
            for n, (sink, on) in enumerate(zip(sinks, (client, other), strict=True))
        ]
        for run in runs:
            run.result(timeout=PATIENCE_S)

    assert [[record["n"] for record in sink.records] for sink in sinks] == [list(range(400))] * 2
    assert control.statistics().jobs == {}


def test_drift_is_mended_under_a_run(cluster, client, control, caplog):
    """A slot that was lost stops everything, until the watch finds it."""
    sink = Collect()
    control.set_gate("one", 1)
    plugin_of(cluster).dispatcher.gates["one"].held += 1
    items = FromIterable([{"n": n} for n in range(20)])
    run = Pipeline("drift").source(items).map(dict, name="ask", gates={"one": 1}).sink(sink)

    with caplog.at_level(logging.WARNING, "sage_dask"):
        run.run(client, batch_size=1)

    assert len(sink.records) == 20
    assert "gate 'one': 1 slots counted, 0 held" in caplog.text


@pytest.mark.slow
def test_a_run_waits_loudly_for_a_resource_that_left_and_goes_on_when_it_is_back(caplog):
    """The driver's log names what is needed and what there is."""
    sink = Collect()
    items = FromIterable([{"n": n} for n in range(4)])

    def wait(record):
        run_until_opened("leaving")
        return record

    async def join(**options):
        return await Worker(cluster.scheduler_address, nthreads=1, **options)

    run = Pipeline("gone").source(items).map(wait, name="ask", resources={"GPU": 1}).sink(sink)
    with (
        live_cluster(1, resources={"GPU": 1}) as cluster,
        Client(cluster, set_as_default=False) as client,
        control_of(client),
        ThreadPoolExecutor(1) as pool,
        switch("leaving") as held,
    ):
        running = pool.submit(run.run, client, batch_size=1)
        until(cluster, lambda: held.num_running == 1)
        plain = cluster.sync(join)
        (address,) = set(cluster.scheduler.workers) - {plain.address}
        cluster.sync(cluster.scheduler.remove_worker, address, stimulus_id="leave")
        held.opened.set()
        until(cluster, lambda: "can not run: each needs GPU=1" in caplog.text)
        waiting = not running.done()
        able = cluster.sync(join, resources={"GPU": 1})
        running.result(timeout=PATIENCE_S)
        for worker in (plain, able):
            cluster.sync(worker.close)

    assert waiting
    assert [record["n"] for record in sink.records] == [0, 1, 2, 3]
    assert "GPU=0" in caplog.text


# --- processes that die


@pytest.mark.cluster
def test_a_worker_killed_mid_run_costs_no_record(tmp_path):
    """Its tasks are placed again by the policy, on the other node and on the restarted one."""
    started = threading.Event()
    sink = Collect()

    def work(record):
        return {**record, "pid": os.getpid()}

    with LocalNodes(2, dashboard=None) as nodes:
        cluster = nodes._cluster
        items = FromIterable([{"n": n} for n in range(1500)])

        def observe(progress):
            started.set()

        run = Pipeline("killed").source(items).map(work, name="work", gates={"llm": 1}).sink(sink)
        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(
                run.run, nodes, policy="spread", gates={"llm": 2}, batch_size=2, observer=observe
            )
            assert started.wait(PATIENCE_S)
            victim = next(iter(nodes.client.run(os.getpid).values()))
            os.kill(victim, signal.SIGKILL)
            report = running.result(timeout=2 * PATIENCE_S)
        statistics = plugin_of(cluster).dispatcher.statistics(0.0)

    assert [record["n"] for record in sink.records] == list(range(1500))
    assert report.num_failed == 0
    assert {record["pid"] for record in sink.records} - {victim}
    assert statistics.gates["llm"].held == 0
    assert (statistics.num_running, statistics.num_queued) == (0, 0)


@pytest.mark.cluster
def test_a_restarted_cluster_runs_the_next_pipeline():
    """client.restart forgets tasks and replaces processes; the dispatcher goes on."""
    with LocalNodes(2, dashboard=None) as nodes:
        first, second = Collect(), Collect()
        pipeline("before", first).run(nodes, policy="pack", batch_size=10)

        nodes.client.restart()
        pipeline("after", second).run(nodes, batch_size=10)

        statistics = plugin_of(nodes._cluster).dispatcher.statistics(0.0)
    assert len(first.records) == len(second.records) == 200
    assert statistics.policy == "pack"
    assert sorted(statistics.nodes) == ["node-0", "node-1"]
