"""Why tasks of a run are not done yet, in words, from a real scheduler."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest
from distributed import Client, Status

from sage_dask.scheduling.on_dask import standstill as module
from sage_dask.scheduling.on_dask.standstill import explain, standstill
from tests.scheduling.on_dask.live import (
    control_of,
    live_cluster,
    run_until_opened,
    submit,
    switch,
    until,
)


def state_of(cluster, name):
    """Return the state of a task; None where the scheduler does not know it."""
    task = cluster.scheduler.tasks.get(name)
    return task and task.state


def is_executing(cluster, name):
    """Return whether the scheduler was told that a task runs."""
    task = cluster.scheduler.tasks.get(name)
    worker = task and task.processing_on
    return worker is not None and task in worker.executing


def is_begun(cluster, name):
    """Return whether a worker is at a task."""
    return any(
        task.key == name for worker in cluster.workers.values() for task in worker.state.executing
    )


def paused(cluster, workers):
    """Pause some workers, and wait until the scheduler knows."""
    for worker in workers:
        worker.status = Status.paused
    addresses = [worker.address for worker in workers]
    known = cluster.scheduler.workers
    until(cluster, lambda: all(known[each].status == Status.paused for each in addresses))


@pytest.fixture
def fresh():
    """Lend a cluster that the test may spoil, and its client."""
    with live_cluster() as cluster, Client(cluster, set_as_default=False) as client:
        yield cluster, client


def test_a_cluster_without_workers_is_told():
    """Whatever the tasks are, nothing could run them."""
    with live_cluster(num_workers=0) as cluster, Client(cluster, set_as_default=False) as client:
        assert standstill(client, ["x"]) == (
            "the cluster has no workers; start some, or look why they went"
        )


def test_workers_without_memory_are_told(fresh):
    """Where all of them pause, no task matters more than that."""
    cluster, client = fresh
    paused(cluster, cluster.workers.values())

    assert standstill(client, ["x"]) == (
        "all 2 workers are paused for want of memory; give them more, or smaller batches"
    )


def test_a_task_on_a_paused_worker_is_told(fresh):
    """The others could go on, so it is the worker that is named."""
    cluster, client = fresh
    with switch("t") as held:
        running = client.submit(run_until_opened, "t", key="t")
        # A worker that is paused before it begins would leave the task until it goes on.
        until(cluster, lambda: is_begun(cluster, "t"))
        address = cluster.scheduler.tasks["t"].processing_on.address
        paused(cluster, [each for each in cluster.workers.values() if each.address == address])

        told = standstill(client, ["t"])
        held.opened.set()
        running.result()

    assert "task 't' is on worker " in told
    assert told.endswith(", which is paused for want of memory; batches under way: 1")


def test_a_task_that_runs_is_told_with_its_time(cluster, client):
    """Of several batches the oldest is told, and how many there are."""
    with switch("t") as held:
        submitted = [("first", "t"), ("second", "t")]
        futures = [client.submit(run_until_opened, name, key=key) for key, name in submitted]
        until(cluster, lambda: is_executing(cluster, "first"))

        told = standstill(client, ["first", "second"])
        held.opened.set()
        client.gather(futures)

    assert told.startswith("task 'first' has been running on worker ")
    assert told.endswith(" s; batches under way: 2")


def test_the_task_that_holds_up_a_chain_is_told(cluster, client):
    """The last task of a batch waits for the first, which is the one to look at."""
    with switch("t") as held:
        early = client.submit(run_until_opened, "t", key="early")
        late = client.submit(str, early, key="late")
        until(cluster, lambda: state_of(cluster, "late") == "waiting")

        told = standstill(client, ["late"])
        held.opened.set()
        late.result()

    assert told.startswith("task 'early' ")


def test_a_task_that_waits_on_its_worker_is_told(cluster, client):
    """More tasks than threads: those behind have a worker and no thread."""
    names = [f"t{number}" for number in range(9)]
    with switch("t") as held:
        futures = [client.submit(run_until_opened, "t", key=each) for each in names]
        until(cluster, lambda: sum(is_executing(cluster, each) for each in names) == 4)
        until(cluster, lambda: all(state_of(cluster, each) != "waiting" for each in names))
        waiting = next(
            each
            for each in names
            if state_of(cluster, each) == "processing" and not is_executing(cluster, each)
        )

        told = standstill(client, [waiting])
        held.opened.set()
        client.gather(futures)

    assert f"task {waiting!r} is on worker " in told
    assert "and waits there for a thread or for answers" in told


def test_a_gate_that_is_closed_is_told(cluster, client):
    """The dispatcher's own word on a task that it holds stands in the place of its name."""
    with control_of(client) as control:
        control.set_gate("llm", 0)
        future = submit(client, int, key="asking", gates={"llm": 1})
        until(cluster, lambda: state_of(cluster, "asking") == "no-worker")

        told = standstill(client, ["asking"])
        control.set_gate("llm", None)
        future.result()

    assert told.startswith("task 'asking' ")
    assert "gate 'llm'" in told
    assert "\n" not in told


def test_a_task_that_no_worker_may_run_is_told(cluster, client):
    """Without a dispatcher, what is known is that nothing has what it needs."""
    future = client.submit(int, key="rare", resources={"rare": 1})
    until(cluster, lambda: state_of(cluster, "rare") == "no-worker")

    told = standstill(client, ["rare"])
    future.cancel()

    assert told.startswith("task 'rare' has no worker that may run it; see what resources it needs")


def test_results_that_are_on_their_way_are_told(cluster, client):
    """Tasks that are done, or that the scheduler has forgotten, wait for nothing there."""
    done = client.submit(int, key="done")
    done.result()

    for keys in (["done"], ["never"], []):
        assert standstill(client, keys) == (
            "what was under way is done, and its results are on their way here"
        )


def test_a_worker_that_fell_silent_is_told(cluster, client):
    """How long ago it was heard of is more than that its task runs."""
    with switch("t") as held:
        future = client.submit(run_until_opened, "t", key="silent")
        until(cluster, lambda: state_of(cluster, "silent") == "processing")

        async def look():
            # In one turn of the scheduler's loop, so that the worker can not be heard of meanwhile.
            worker = cluster.scheduler.tasks["silent"].processing_on
            worker.last_seen = time.time() - 40
            return explain(["silent"], cluster.scheduler)

        told = cluster.sync(look)
        held.opened.set()
        future.result()

    assert ", which was last heard of 40 s ago; batches under way: 1" in told


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (TimeoutError(), "the scheduler at tcp://here gives no answer in 5 s"),
        (OSError("cable"), "the scheduler can not say why (OSError: cable)"),
    ],
)
def test_a_scheduler_that_can_not_be_asked_is_told(error, told):
    """A run does not end because nobody can say why it waits."""

    def sync(*args, **kwargs):
        raise error

    scheduler = SimpleNamespace(address="tcp://here")
    client = SimpleNamespace(sync=sync, scheduler=scheduler, _run_on_scheduler=None)

    assert standstill(client, ["x"]) == told
    assert module._ANSWER_S == 5.0
