"""What the watch finds that no event tells."""

from __future__ import annotations

import pytest

from sage_dask.scheduling.on_dask.settings import Settings
from sage_dask.scheduling.on_dask.watch import IDLE_TOPIC, cpu_share, memory_share
from tests.scheduling.on_dask.plugged import check, look, notices, ours, plugged, tasks


@pytest.fixture
def state():
    """Lend a scheduler with a plugin that has one gate of two slots."""
    with plugged(Settings("fifo", gates={"llm": 2})) as state:
        yield state


def workers(dask, *names):
    """Return Dask's records of workers."""
    return [dask.worker(name) for name in names]


def lose_a_slot(plugin):
    """Tamper with a gate, as a forgotten give_back would."""
    plugin.dispatcher.gates["llm"].held += 1


def lose_a_thread(plugin):
    """Tamper with a worker, as a lease that was dropped would."""
    next(iter(plugin.dispatcher.nodes.workers.values())).free["threads"] -= 1


def lose_a_task(plugin):
    """Drop a task from the queue, as a missed event would."""
    plugin.dispatcher.queue.remove(next(iter(plugin.dispatcher.queue.entries())).task.key)


def lose_an_end(plugin):
    """Keep a lease whose task is over, as a missed event would."""
    ledger = plugin.dispatcher.ledger
    lease = next(iter(ledger.running.values()))
    ledger._running = {**ledger.running, "ghost": lease}


@pytest.mark.parametrize("tamper", [lose_a_slot, lose_a_thread, lose_a_task, lose_an_end])
def test_drift_is_told_and_counts_are_taken_anew(state, tamper):
    """After one look they agree with Dask again, and all work completes."""
    dask, plugin = state
    dask.add_worker("a", threads=2)
    dask.submit(tasks(5), ours(gates={"llm": 1}))
    tamper(plugin)

    look(dask, plugin)

    (text,) = notices(dask, "drift")
    assert "taken anew" in text
    check(dask, plugin)
    num_done = 0
    while running := dask.running_on("a"):
        dask.finish(min(running))
        num_done += 1
    assert num_done == 5


def test_without_drift_there_is_nothing_to_tell(state):
    """Running, waiting, cancelled and finished tasks, and a paused worker, are no drift."""
    dask, plugin = state
    dask.add_worker("a", threads=2)
    dask.add_worker("b")
    dask.submit({**tasks(9), "after": ["t-0"]}, ours(gates={"llm": 1}))
    first, second = [*dask.running_on("a"), *dask.running_on("b")]
    dask.finish(first)
    dask.cancel(second)
    dask.pause("b")

    look(dask, plugin)
    look(dask, plugin)

    assert dask.scheduler.get_events("sage-dask") == ()


def test_a_rebuild_keeps_cancelled_tasks_that_run_on(state):
    """Dask has forgotten them; their slots are not free all the same."""
    dask, plugin = state
    dask.add_worker("a", threads=2)
    dask.submit(tasks(4), ours(gates={"llm": 1}))
    dask.cancel(min(dask.running_on("a")))
    lose_a_slot(plugin)

    look(dask, plugin)

    assert plugin.dispatcher.statistics(0.0).num_abandoned == 1
    assert plugin.dispatcher.gates["llm"].held == 2
    assert len(dask.running_on("a")) == 1


def test_a_rebuild_keeps_the_operators_settings(state):
    """Policy and gates stay as they were set."""
    dask, plugin = state
    dask.add_worker("a")
    plugin.settings.gates["llm"] = 7
    dask.submit({"x": []}, ours(gates={"llm": 1}))
    lose_a_slot(plugin)

    look(dask, plugin)

    assert plugin.dispatcher.gates["llm"].limit == 7


def test_a_fault_in_the_watch_fails_what_waits(state):
    """A watch that is silently dead would be no watch."""
    dask, plugin = state
    dask.submit({"x": []}, ours())

    def planted(now_s):
        raise ZeroDivisionError("planted")

    plugin.dispatcher.tick = planted
    look(dask, plugin)

    assert dask.task("x").state == "erred"
    plugin.dispatcher.__dict__.pop("tick")


def test_unplaceable_tasks_are_told_of_and_run_when_they_can(state):
    """The notice names what they need and what there is; nothing fails."""
    dask, plugin = state
    dask.add_worker("a", resources={"GPU": 1})
    dask.submit(tasks(2), {**ours(), "resources": {"GPU": 1}})
    dask.lose_worker("a", expected=True)
    dask.add_worker("b")
    look(dask, plugin)
    line = next(line for line in plugin.dispatcher.queue.lines.values() if line.size)
    line.impossible_since_s -= 60  # Long ago, without waiting.

    look(dask, plugin)
    look(dask, plugin)
    dask.add_worker("c", resources={"GPU": 2}, threads=2)

    (text,) = notices(dask, "unplaceable")
    assert text.startswith("2 tasks of rag/embed")
    assert "each needs GPU=1" in text
    assert "GPU=0" in text
    assert dask.running_on("c") == set(tasks(2))


def test_a_worker_that_changes_what_it_supplies_is_counted_anew(state):
    """Dask tells nobody; what runs stays counted, and nobody is told of a defect."""
    dask, plugin = state
    dask.add_worker("a", threads=9, resources={"GPU": 1})
    dask.submit(tasks(5), {**ours(), "resources": {"GPU": 1}})
    before = dask.running_on("a")
    dask.do(dask.scheduler.add_resources, dask.address("a"), {"GPU": 3})

    look(dask, plugin)

    assert len(before) == 1
    assert before < dask.running_on("a")
    assert len(dask.running_on("a")) == 3
    assert notices(dask, "drift") == []


def test_pressure_of_nodes_reaches_policies(state):
    """Memory of the fullest worker of a node, processor of all of them."""
    dask, plugin = state
    dask.add_worker("a/0", node="a", memory_limit=100)
    dask.add_worker("a/1", node="a", memory_limit=100)
    dask.heartbeat("a/0", memory=25, cpu=100.0)
    dask.heartbeat("a/1", memory=75, cpu=0.0)

    look(dask, plugin)
    dask.submit({"x": []}, ours())

    seen = plugin.dispatcher.nodes["a"]
    assert (seen._memory, seen._cpu) == (0.75, 0.5)


def test_shares_are_none_where_nothing_is_known(state):
    """A worker without a memory limit is not empty."""
    dask, _ = state
    dask.add_worker("a")
    dask.worker("a").metrics = {}

    assert memory_share(workers(dask, "a")) is None
    assert cpu_share(workers(dask, "a")) is None


def test_the_hosts_processor_counts_where_it_is_measured(state):
    """Others on the machine slow our tasks as well; waiting for disks does not."""
    dask, _ = state
    dask.add_worker("a")
    dask.heartbeat("a", host_cpu={"user": 60.0, "idle": 30.0, "iowait": 10.0}, cpu=0.0)

    assert cpu_share(workers(dask, "a")) == pytest.approx(0.6)


def test_nodes_without_work_are_told_when_that_changes(state):
    """Each node that has been idle for a while, once; and again when one of them is used."""
    dask, plugin = state
    for name in ("a", "b"):
        dask.add_worker(name, node=name)
        plugin.dispatcher.nodes[name].idle_since_s -= 60  # Long ago, without waiting.

    look(dask, plugin)
    look(dask, plugin)
    dask.submit(tasks(1), ours())
    look(dask, plugin)

    told = [nodes for _, nodes in dask.scheduler.get_events(IDLE_TOPIC)]
    assert told[0] == ["a", "b"]
    assert [len(nodes) for nodes in told] == [2, 1]
