"""The plugin on Dask's own scheduler, without machines."""

from __future__ import annotations

import pickle
from types import SimpleNamespace

import dask.config
import pytest
from distributed.scheduler import KilledWorker

from sage_dask.errors import PolicyError, RunError
from sage_dask.scheduling.on_dask import keeping, placing
from sage_dask.scheduling.on_dask import plugin as hooks
from sage_dask.scheduling.on_dask.plugin import DispatchPlugin
from sage_dask.scheduling.on_dask.settings import Settings
from sage_dask.scheduling.on_dask.wire import PLACED
from tests.scheduling.on_dask.dask_state import DaskState
from tests.scheduling.on_dask.plugged import (
    LostPolicy,
    RaisingPolicy,
    check,
    look,
    notices,
    ours,
    plug,
    plugged,
    tasks,
)


@pytest.fixture
def state():
    """Lend a scheduler with a plugin that has one gate of two slots."""
    with plugged(Settings("fifo", gates={"llm": 2})) as state:
        yield state


def held_of(plugin, gate):
    """Return how many slots of a gate are held."""
    return plugin.dispatcher.gates[gate].held


def finish_all(dask):
    """Let workers finish whatever they are given, until nothing is left to do."""
    finished = []
    while running := [key for key, state in dask.states().items() if state == "processing"]:
        for key in running:
            dask.finish(key)
        finished += running
    return finished


# --- holding and placing


def test_tasks_are_held_until_a_thread_is_free(state):
    """Of five tasks two run on two threads, and the others wait here and not on the worker."""
    dask, plugin = state
    dask.add_worker("a", threads=2)

    dask.submit(tasks(5), ours())

    assert len(dask.running_on("a")) == 2
    assert sorted(dask.states().values()) == ["no-worker"] * 3 + ["processing"] * 2
    assert len(plugin.dispatcher.queue) == 3


def test_a_task_that_ends_makes_room_for_the_next(state):
    """The decision follows within the same turn of the event loop."""
    dask, _ = state
    dask.add_worker("a")
    dask.submit(tasks(2), ours())
    (first,) = dask.running_on("a")

    dask.finish(first)

    (second,) = dask.running_on("a")
    assert {first, second} == {"t-0", "t-1"}


def test_tasks_start_in_the_order_of_their_graph(state):
    """Dask takes recommendations from the end, and must not turn ours around."""
    dask, _ = state
    dask.submit(tasks(9), ours())

    dask.add_worker("a", threads=9)

    by_priority = sorted(tasks(9), key=lambda key: dask.task(key).priority)
    assert [message["key"] for message in dask.sent("a", "compute-task")] == by_priority


def test_a_task_is_bound_to_a_node_as_late_as_it_can_be(state):
    """What waits goes to a node that joins after it was submitted."""
    dask, _ = state
    dask.add_worker("a")
    dask.submit(tasks(3), ours())

    dask.add_worker("b", threads=2)

    assert len(dask.running_on("b")) == 2


def test_a_dependent_waits_for_its_input_and_then_for_a_thread(state):
    """It is not in our queue while its input is not there."""
    dask, plugin = state
    dask.add_worker("a")
    dask.submit({"x": [], "y": ["x"]}, ours())
    assert (dask.task("y").state, len(plugin.dispatcher.queue)) == ("waiting", 0)

    dask.finish("x")

    assert dask.running_on("a") == {"y"}


def test_several_workers_of_a_machine_are_one_node(state):
    """By the name that our clusters give it, and by host otherwise."""
    dask, plugin = state
    dask.add_worker("a/0", node="rack-1")
    dask.add_worker("a/1", node="rack-1")
    dask.add_worker("b", host="10.9.9.9")
    dask.add_worker("c", host="10.9.9.9")

    dask.submit(tasks(4), ours())

    statistics = plugin.dispatcher.statistics(0.0).nodes
    assert {name: node.in_flight for name, node in statistics.items()} == {
        "rack-1": 2,
        "10.9.9.9": 2,
    }


def test_no_worker_gets_more_than_it_supplies(state):
    """Eight threads and two seats take two tasks that need a seat."""
    dask, _ = state
    dask.add_worker("a", threads=8, resources={"LLM": 2})

    dask.submit(tasks(5), {**ours(), "resources": {"LLM": 1}})

    assert len(dask.running_on("a")) == 2
    assert dask.worker("a").used_resources == {"LLM": 2}


def test_a_gate_bounds_tasks_of_all_nodes(state):
    """Two slots let two tasks run on a hundred threads."""
    dask, plugin = state
    dask.add_worker("a", threads=50)
    dask.add_worker("b", threads=50)

    dask.submit(tasks(5), ours(gates={"llm": 1}))

    assert held_of(plugin, "llm") == 2
    assert list(dask.states().values()).count("processing") == 2


@pytest.mark.parametrize(("limit", "running"), [(0, 2), (1, 2), (4, 4), (None, 6)])
def test_a_gate_may_be_changed_while_tasks_run(state, limit, running):
    """Raised or taken away it lets more through at once; lowered it takes nothing away."""
    dask, plugin = state
    dask.add_worker("a", threads=50)
    dask.submit(tasks(6), ours(gates={"llm": 1}))

    dask.do(lambda: (plugin.dispatcher.set_gate("llm", limit), plugin.kick()))

    assert len(dask.running_on("a")) == running


def test_a_lowered_gate_starts_nothing_until_enough_came_back(state):
    """Two held of one: the first end starts nobody, the second one does."""
    dask, plugin = state
    dask.add_worker("a", threads=50)
    dask.submit(tasks(4), ours(gates={"llm": 1}))
    dask.do(lambda: (plugin.dispatcher.set_gate("llm", 1), plugin.kick()))
    first, second = sorted(dask.running_on("a"))

    dask.finish(first)
    between = len(dask.running_on("a"))
    dask.finish(second)

    assert between == 1
    assert len(dask.running_on("a")) == 1
    assert dask.running_on("a") != {second}


# --- other people's tasks


def submit_mixture(dask):
    """Submit what users submit: plain tasks, restricted ones, and such with resources."""
    dask.submit({"free": [], "next": ["free"]})
    dask.submit(tasks(40, "root"))
    dask.submit(tasks(3, "pinned"), {"workers": ["b"]})
    dask.submit(tasks(3, "loose"), {"workers": ["a"], "allow_other_workers": True})
    dask.submit(tasks(3, "seat"), {"resources": {"LLM": 1}})


def placements(dask):
    """Return state and worker of every task, once the first few are done."""
    dask.add_worker("a", threads=2, resources={"LLM": 1})
    dask.add_worker("b", threads=2)
    submit_mixture(dask)
    dask.finish("free")
    return {
        key: (task.state, task.processing_on and task.processing_on.name)
        for key, task in dask.scheduler.tasks.items()
    }


def test_tasks_of_others_are_where_they_would_be_without_us():
    """Same states and same workers, queued ones included."""
    with DaskState() as alone:
        expected = placements(alone)

    with plugged() as (beside, plugin):
        found = placements(beside)

    assert found == expected
    assert {state for state, _ in found.values()} >= {"processing", "queued", "memory"}
    assert plugin.dispatcher.statistics(0.0).num_decisions == 0


def test_tasks_of_others_are_stolen_as_ever_and_ours_are_not():
    """Stealing from an overloaded worker asks for the others' tasks only."""
    with plugged(config={"distributed.scheduler.work-stealing": True}) as (dask, _):
        dask.add_worker("busy", threads=4)
        dask.submit(tasks(4), ours())
        dask.submit(tasks(20, "other"), {"workers": ["busy"], "allow_other_workers": True})
        dask.add_worker("idle")

        dask.do(dask.scheduler.extensions["stealing"].balance)

        asked = {message["key"] for message in dask.sent("busy", "steal-request")}
        assert asked
        assert not asked & set(tasks(4))


# --- what users restrict


@pytest.mark.parametrize("wanted", ["b", ["b"], "10.3.3.3", ["10.3.3.3", "nowhere"]])
def test_a_restriction_to_workers_holds(state, wanted):
    """By name, by host and as a list, they go to that worker though another is idle."""
    dask, _ = state
    dask.add_worker("a", threads=4)
    dask.add_worker("b", threads=1, host="10.3.3.3")

    dask.submit(tasks(3), {**ours(), "workers": wanted})

    assert len(dask.running_on("b")) == 1
    assert dask.running_on("a") == set()


def test_a_loose_restriction_lets_other_workers_take_the_task(state):
    """allow_other_workers is no reason to wait."""
    dask, _ = state
    dask.add_worker("a")
    dask.add_worker("b")

    dask.submit(tasks(2), {**ours(), "workers": ["a"], "allow_other_workers": True})

    assert (len(dask.running_on("a")), len(dask.running_on("b"))) == (1, 1)


def test_a_task_for_a_named_worker_waits_until_one_of_that_name_comes(state):
    """The name is looked up when workers join, not only when the task is ready."""
    dask, _ = state
    dask.add_worker("a")
    dask.submit({"x": []}, {**ours(), "workers": ["b"]})
    assert dask.task("x").state == "no-worker"

    dask.add_worker("b")

    assert dask.running_on("b") == {"x"}


def test_a_task_for_a_worker_that_was_restarted_goes_to_its_new_address(state):
    """Dask resolves a name once; ours would wait for ever for the old address."""
    dask, _ = state
    dask.add_worker("a")
    dask.submit(tasks(2), {**ours(), "workers": ["a"]})
    dask.lose_worker("a", expected=True)

    dask.add_worker("a")

    assert len(dask.running_on("a")) == 1


# --- giving back


def test_done_and_failed_tasks_give_back_at_once(state):
    """Slots are free within the transition that ends the task."""
    dask, plugin = state
    dask.add_worker("a", threads=4)
    dask.submit(tasks(2), ours(gates={"llm": 1}))

    dask.finish("t-0")
    after_done = held_of(plugin, "llm")
    dask.fail("t-1")

    assert (after_done, held_of(plugin, "llm")) == (1, 0)


def test_a_retried_task_gives_back_and_is_placed_again(state):
    """Its worker said that the run is over, so nobody is asked whether it still runs."""
    dask, plugin = state
    dask.add_worker("a")
    dask.submit({"x": []}, {**ours(gates={"llm": 1}), "retries": 1})

    dask.fail("x")

    assert dask.task("x").state == "processing"
    assert held_of(plugin, "llm") == 1
    assert plugin.dispatcher.statistics(0.0).num_abandoned == 0


def test_a_rescheduled_task_gives_back_and_is_placed_again(state):
    """As after a retry."""
    dask, plugin = state
    dask.add_worker("a")
    dask.submit({"x": []}, ours(gates={"llm": 1}))

    dask.reschedule("x")

    assert dask.task("x").state == "processing"
    assert held_of(plugin, "llm") == 1
    assert plugin.dispatcher.statistics(0.0).num_abandoned == 0


def test_tasks_of_a_killed_worker_give_back():
    """KilledWorker is an end like any other."""
    with plugged(Settings("fifo", gates={"llm": 2}), allowed_failures=0) as (dask, plugin):
        dask.add_worker("a", threads=2)
        dask.submit(tasks(2), ours(gates={"llm": 1}))

        dask.lose_worker("a")

        assert set(dask.states().values()) == {"erred"}
        assert isinstance(pickle.loads(dask.task("t-0").exception), KilledWorker)
        assert held_of(plugin, "llm") == 0


def test_tasks_of_a_lost_worker_are_placed_again_by_the_policy(state):
    """They give back, wait in the queue, and start elsewhere as there is room."""
    dask, plugin = state
    dask.add_worker("a", threads=2)
    dask.submit(tasks(2), ours(gates={"llm": 1}))

    dask.lose_worker("a")
    while_none = held_of(plugin, "llm")
    dask.add_worker("b", threads=2)

    assert while_none == 0
    assert any("lost with its worker" in line for line in plugin.dispatcher.why("t-0", 0.0))
    assert dask.running_on("b") == set(tasks(2))
    assert held_of(plugin, "llm") == 2


def test_a_result_lost_with_its_worker_is_computed_again_where_we_say(state):
    """The hold outlives the first run."""
    dask, plugin = state
    dask.add_worker("a")
    dask.submit({"x": []}, ours())
    dask.finish("x")
    dask.add_worker("b")
    before = plugin.dispatcher.statistics(0.0).num_decisions

    dask.lose_worker("a")

    assert dask.running_on("b") == {"x"}
    assert plugin.dispatcher.statistics(0.0).num_decisions == before + 1


def test_tasks_of_a_vanished_client_are_withdrawn_or_keep_what_they_hold(state):
    """Waiting ones are gone; running ones run on, and hold their slots until they end."""
    dask, plugin = state
    dask.add_worker("a", threads=4)
    dask.submit(tasks(5), ours(gates={"llm": 1}))

    dask.disconnect()

    statistics = plugin.dispatcher.statistics(0.0)
    assert dask.states() == {}
    assert (statistics.num_queued, statistics.num_abandoned) == (0, 2)
    assert held_of(plugin, "llm") == 2


def test_a_cancelled_running_task_keeps_its_thread_and_slot(state):
    """The worker still is at it, whatever the scheduler thinks."""
    dask, plugin = state
    dask.add_worker("a")
    dask.submit(tasks(2), ours(gates={"llm": 1}))

    (running,) = dask.running_on("a")

    dask.cancel(running)

    assert dask.running_on("a") == set()
    assert list(dask.states().values()) == ["no-worker"]
    assert held_of(plugin, "llm") == 1


def test_an_abandoned_task_gives_back_with_its_worker(state):
    """A process that is gone runs nothing."""
    dask, plugin = state
    dask.add_worker("a")
    dask.submit({"x": []}, ours(gates={"llm": 1}))
    dask.cancel("x")

    dask.lose_worker("a")

    assert held_of(plugin, "llm") == 0


def test_a_seceded_task_keeps_what_it_holds_until_its_end(state):
    """It has left its thread, not its gate."""
    dask, plugin = state
    dask.add_worker("a")
    dask.submit({"x": []}, ours(gates={"llm": 1}))
    dask.submit({"y": []}, ours(gates={"llm": 1}))

    dask.secede("x")
    meanwhile = held_of(plugin, "llm")
    dask.finish("x")

    assert meanwhile == 1
    assert dask.running_on("a") == {"y"}


def test_a_task_that_dask_refuses_gives_back_in_its_own_start():
    """Inputs above the memory limit err before the start is over."""
    with plugged(Settings("fifo", gates={"llm": 1})) as (dask, plugin):
        dask.add_worker("a")
        dask.submit({"x": []}, ours())
        dask.finish("x", nbytes=1000)
        dask.add_worker("small", memory_limit=10)

        dask.submit({"y": ["x"]}, {**ours(gates={"llm": 1}), "workers": ["small"]})

        assert dask.task("y").state == "erred"
        assert held_of(plugin, "llm") == 0


def test_retrying_a_failed_task_holds_it_again(state):
    """A client's retry goes through the policy as the first try did."""
    dask, _ = state
    dask.add_worker("a")
    dask.submit({"x": []}, ours())
    dask.submit({"y": []}, ours())
    dask.fail("x")

    dask.retry("x")
    waiting = dask.task("x").state
    dask.finish("y")

    assert waiting == "no-worker"
    assert dask.running_on("a") == {"x"}


# --- workers that pause, leave and come


def test_a_paused_worker_gets_nothing(state):
    """Its pause is found out at the latest as a task is about to start there."""
    dask, _ = state
    dask.add_worker("a")
    dask.pause("a")
    dask.add_worker("b")
    dask.submit(tasks(2), ours())

    assert (dask.running_on("a"), len(dask.running_on("b"))) == (set(), 1)


def test_a_worker_that_paused_unnoticed_leaves_no_placement_behind(state):
    """What was meant for it is held again, and goes to the next one with room."""
    dask, _ = state
    dask.add_worker("a")
    dask.submit({"x": []}, ours())
    dask.pause("a")
    dask.finish("x")

    dask.submit({"y": []}, ours())
    held = dask.task("y").worker_restrictions
    dask.add_worker("b")

    assert held == {"sage://held"}
    assert dask.running_on("b") == {"y"}


def test_a_placement_that_dask_does_not_obey_is_taken_back(state):
    """What a worker supplies may shrink without a word; the task waits, and holds nothing."""
    dask, plugin = state
    dask.add_worker("a", resources={"GPU": 2})
    dask.do(dask.scheduler.add_resources, dask.address("a"), {"GPU": 0})

    dask.submit({"x": []}, {**ours(gates={"llm": 1}), "resources": {"GPU": 1}})

    assert dask.task("x").state == "no-worker"
    assert dask.task("x").worker_restrictions == {"sage://held"}
    assert held_of(plugin, "llm") == 0
    # It was tried once, and not at every turn of the event loop.
    assert plugin.dispatcher.statistics(0.0).num_decisions == 1


def test_a_worker_that_resumes_gets_work_again(state):
    """The watch notices, since Dask tells no plugin."""
    dask, plugin = state
    dask.add_worker("a")
    dask.pause("a")
    look(dask, plugin)
    dask.submit({"x": []}, ours())
    assert dask.task("x").state == "no-worker"

    dask.resume("a")
    look(dask, plugin)

    assert dask.running_on("a") == {"x"}


def test_a_retired_worker_leaves_its_tasks_to_others():
    """Nobody is blamed, and nothing is lost."""
    with plugged(allowed_failures=0) as (dask, _):
        dask.add_worker("a", threads=2)
        dask.submit(tasks(2), ours())
        dask.add_worker("b", threads=2)

        dask.lose_worker("a", expected=True)

        assert dask.running_on("b") == set(tasks(2))


def test_downscaling_offers_workers_of_idle_nodes_only(state):
    """A worker beside a busy one of the same machine stays."""
    dask, _ = state
    dask.add_worker("a/0", node="a")
    dask.submit({"x": []}, ours())
    dask.add_worker("a/1", node="a")
    dask.add_worker("b", node="b")

    to_close = dask.scheduler.workers_to_close(n=3, attribute="name")

    assert to_close == ["b"]


def test_a_restart_begins_anew(state):
    """All tasks are forgotten, no slot stays held, and new workers get new tasks."""
    dask, plugin = state
    dask.add_worker("a", threads=2)
    dask.submit(tasks(5), ours(gates={"llm": 1}))

    dask.restart()
    dask.add_worker("b", threads=2)
    dask.submit(tasks(2, "new"), ours(gates={"llm": 1}))

    assert dask.running_on("b") == set(tasks(2, "new"))
    assert held_of(plugin, "llm") == 2


def test_a_restart_keeps_what_an_operator_set(state):
    """Policy, gates and weights are the cluster's, not a run's."""
    dask, plugin = state
    dask.do(plugin.settings.gates.update, {"llm": 1})

    dask.restart()

    assert plugin.dispatcher.gates["llm"].limit == 1
    assert plugin.dispatcher.policy.name == "fifo"


# --- coming late, leaving, coming back


def test_tasks_in_every_state_are_adopted_from_a_running_cluster():
    """Processing ones are counted, queued and held ones are placed, waiting ones in their time."""
    with DaskState() as dask:
        dask.add_worker("a")
        dask.submit(tasks(30), ours())
        dask.submit({"after": ["t-0"]}, ours())
        dask.submit({"seat": []}, {**ours(), "resources": {"LLM": 1}})
        assert {"queued", "processing", "waiting", "no-worker"} == set(dask.states().values())

        plugin = plug(dask)

        assert not dask.scheduler.queued
        assert plugin.dispatcher.statistics(0.0).num_running == 2
        assert len(plugin.dispatcher.queue) == 29
        assert len(finish_all(dask)) == 31
        check(dask, plugin)
        assert dask.task("seat").state == "no-worker"
        dask.add_worker("b", resources={"LLM": 1})
        assert dask.running_on("b") == {"seat"}


def test_queued_tasks_of_others_stay_queued_when_a_plugin_comes():
    """Only ours are taken out of Dask's queue."""
    with DaskState() as dask:
        dask.add_worker("a")
        dask.submit(tasks(30))
        before = dask.states()

        plug(dask)

        assert dask.states() == before


def test_a_running_task_that_was_adopted_is_not_stolen():
    """Else Dask would move it behind our back, without a transition."""
    with DaskState({"distributed.scheduler.work-stealing": True}) as dask:
        dask.add_worker("busy")
        dask.submit(tasks(20), {**ours(), "workers": ["busy"], "allow_other_workers": True})
        plug(dask)
        dask.add_worker("idle")

        dask.do(dask.scheduler.extensions["stealing"].balance)

        assert dask.sent("busy", "steal-request") == []


def test_more_than_a_worker_supplies_is_no_drift_if_dask_put_it_there():
    """Dask gives two tasks to one thread; the watch must not rebuild once a second for it."""
    with DaskState() as dask:
        dask.add_worker("a")
        dask.submit(tasks(30), ours())
        plugin = plug(dask)

        look(dask, plugin)

        assert notices(dask, "drift") == []
        assert len(dask.running_on("a")) == 2


def test_registering_twice_changes_nothing(state):
    """The one that is there stays, with its settings."""
    dask, plugin = state
    dask.add_worker("a")
    dask.submit(tasks(3), ours())

    second = plug(dask, Settings("pack"))

    assert dask.scheduler.plugins[plugin.name] is plugin
    assert not hasattr(second, "dispatcher")


def test_another_one_adopts_all_after_unregistering():
    """Held, running and cancelled tasks are as they were, and the first one decides nothing."""
    with DaskState() as dask:
        first = plug(dask, Settings("fifo", gates={"llm": 3}))
        dask.add_worker("a", threads=4)
        dask.submit(tasks(5), ours(gates={"llm": 1}))
        cancelled, ends, *_ = dask.running_on("a")
        dask.cancel(cancelled)
        dask.unregister(first.name)

        second = plug(dask, Settings("fifo", gates={"llm": 3}))

        check(dask, second)
        assert not first.watch._callback.is_running()
        assert held_of(second, "llm") == 3
        assert second.dispatcher.statistics(0.0).num_abandoned == 1
        decided = first.dispatcher.statistics(0.0).num_decisions
        dask.finish(ends)
        look(dask, first)
        check(dask, second)
        assert first.dispatcher.statistics(0.0).num_decisions == decided
        assert len(dask.running_on("a")) == 2


def test_unregistering_leaves_stock_dask_behind():
    """Nobody calls the plugin, so its watch finds out; nothing stays held for ever."""
    with DaskState() as dask:
        plugin = plug(dask)
        dask.add_worker("a")
        dask.submit(tasks(30), ours())
        dask.unregister(plugin.name)

        look(dask, plugin)

        assert "no-worker" not in dask.states().values()
        assert len(finish_all(dask)) == 30
        assert "sage_dask" not in dask.scheduler.handlers


RESTRICTED = {
    "workers": ["b", "10.7.7.7"],
    "allow_other_workers": True,
    "resources": {"LLM": 1},
    "retries": 2,
}


def restrictions(task):
    """Return all by which Dask decides where a task may run."""
    return (
        task.worker_restrictions or set(),
        task.host_restrictions or set(),
        task.resource_restrictions or {},
        task.loose_restrictions,
        task.retries,
    )


@pytest.mark.parametrize("asked", [{}, RESTRICTED, {"workers": ["b"]}, {"resources": {"LLM": 1}}])
def test_detaching_restores_every_restriction(asked):
    """As they are without us, in whatever state the task is."""
    graph = {**tasks(6), "after": ["t-0"]}
    with DaskState() as alone:
        alone.add_worker("b", resources={"LLM": 2})
        alone.submit(graph, {**ours(), **asked})
        expected = {key: restrictions(task) for key, task in alone.scheduler.tasks.items()}
    with DaskState() as dask:
        plugin = plug(dask)
        dask.add_worker("b", resources={"LLM": 2})
        dask.submit(graph, {**ours(), **asked})

        dask._run(plugin.detach())

        assert {k: restrictions(task) for k, task in dask.scheduler.tasks.items()} == expected
        assert "no-worker" not in dask.states().values()
        assert len(finish_all(dask)) == 7


def test_detaching_hands_roots_to_dasks_own_queue():
    """They are not poured onto the workers all at once."""
    with DaskState() as dask:
        plugin = plug(dask)
        dask.add_worker("a")
        dask.submit(tasks(50), ours())

        dask._run(plugin.detach())

        states = list(dask.states().values())
        assert states.count("queued") > 40
        assert DispatchPlugin.name not in dask.scheduler.plugins


# --- priorities, shares, quotas


def test_an_urgent_task_lends_its_priority_to_what_it_waits_for():
    """The inputs of a late urgent task go before what came first, through two generations."""
    with plugged(Settings("priority")) as (dask, _):
        dask.add_worker("a")
        dask.submit({"first": []}, ours(priority=0))
        dask.submit(tasks(3), ours(priority=1))
        dask.submit({"in": [], "mid": ["in"]}, ours(priority=-5))

        dask.submit({"top": ["mid"]}, ours(job="2", priority=100))
        dask.finish("first")
        second = dask.running_on("a")
        dask.finish("in")
        third = dask.running_on("a")
        dask.finish("mid")

        assert (second, third, dask.running_on("a")) == ({"in"}, {"mid"}, {"top"})


def test_priority_is_inherited_also_below_zero():
    """What an ordinary task needs is not left behind with the least urgent ones."""
    with plugged(Settings("priority")) as (dask, _):
        dask.add_worker("a")
        dask.submit({"first": []}, ours())
        dask.submit(tasks(2), ours(priority=-2))
        dask.submit({"in": []}, ours(priority=-9))

        dask.submit({"top": ["in"]}, ours(job="2"))
        dask.finish("first")

        assert dask.running_on("a") == {"in"}


def test_jobs_share_by_weight():
    """Of thirty tasks started one by one, twice as many are of the job of twice the weight."""
    with plugged(Settings("spread")) as (dask, _):
        dask.add_worker("a")
        dask.submit(tasks(40, "one"), ours(job="1"))
        dask.submit(tasks(40, "two"), ours(job="2", weight=2))
        started = []

        for _ in range(31):
            (key,) = dask.running_on("a")
            started.append(key.partition("-")[0])
            dask.finish(key)

        assert started.count("two") == pytest.approx(20, abs=2)


def test_a_quota_bounds_a_job_and_nobody_else():
    """Three threads for one job leave the others to the next."""
    with plugged() as (dask, _):
        dask.add_worker("a", threads=8)
        dask.submit(tasks(20, "bound"), ours(job="1", quota={"threads": 3}))
        dask.submit(tasks(20, "free"), ours(job="2"))

        names = [key.partition("-")[0] for key in dask.running_on("a")]

        assert (names.count("bound"), names.count("free")) == (3, 5)


def test_two_clients_share_a_scheduler(state):
    """One that goes takes its own tasks along, and no others."""
    dask, plugin = state
    dask.add_worker("a")
    dask.connect("other")
    dask.submit(tasks(3, "mine"), ours(job="1"))
    dask.submit(tasks(3, "other"), ours(job="2"), client="other")

    dask.disconnect("other")

    assert {key for key in dask.states() if key.startswith("mine")} == set(tasks(3, "mine"))
    assert len(plugin.dispatcher.queue) == 2


# --- policies and hooks that do wrong


@pytest.mark.parametrize(
    ("policy", "says"), [(RaisingPolicy(), "KeyError"), (LostPolicy(), "atlantis")]
)
def test_a_bad_policy_fails_what_waits(policy, says):
    """With its name, and where it raised its traceback; nothing is left waiting."""
    with plugged(Settings(policy)) as (dask, _):
        dask.add_worker("a")

        dask.submit({**tasks(3), "after": ["t-0"]}, ours())

        assert set(dask.states().values()) == {"erred"}
        told = {message["key"]: message for message in dask.told("task-erred")}
        error = pickle.loads(told["after"]["exception"])
        assert isinstance(error, PolicyError)
        assert repr(policy.name) in str(error)
        assert says in str(error)


def test_a_policy_error_carries_the_traceback_of_the_policy():
    """It ran on the scheduler, so the line in question has to travel."""
    with plugged(Settings(RaisingPolicy())) as (dask, _):
        dask.add_worker("a")
        dask.submit({"x": []}, ours())

        error = pickle.loads(dask.task("x").exception)

        assert 'raise KeyError("planted")' in str(error)


def test_a_good_policy_mends_a_failed_dispatcher():
    """What comes after it is placed."""
    with plugged(Settings(RaisingPolicy())) as (dask, plugin):
        dask.add_worker("a")
        dask.submit({"x": []}, ours())

        dask.do(lambda: (plugin.dispatcher.set_policy("fifo"), plugin.kick()))
        dask.submit({"y": []}, ours())

        assert dask.states() == {"x": "erred", "y": "processing"}


def test_with_fallback_the_run_goes_on_and_people_are_told():
    """Fifo places the tasks, and a notice names the policy."""
    settings = Settings(RaisingPolicy(), on_policy_error="fallback")
    with plugged(settings) as (dask, plugin):
        dask.add_worker("a")
        dask.submit(tasks(3), ours())

        done = finish_all(dask)
        look(dask, plugin)

        assert len(done) == 3
        (text,) = notices(dask, "policy")
        assert "'raising'" in text


def test_a_policy_set_while_tasks_wait_decides_about_them(state):
    """Hundreds that wait follow it at once."""
    dask, plugin = state
    dask.submit(tasks(300), ours())

    dask.do(lambda: (plugin.dispatcher.set_policy("pack"), plugin.kick()))
    dask.add_worker("a", threads=2)

    assert plugin.dispatcher.statistics(0.0).decisions == {"pack": 2}


@pytest.mark.parametrize(
    "event", ["task_ready", "task_ended", "job_arrived", "dispatch", "task_withdrawn"]
)
def test_a_hook_that_breaks_fails_runs_and_never_leaves_them_waiting(event):
    """Whatever the dispatcher can not take, nothing stays held: all tasks end, or fail with why."""
    with DaskState() as dask:
        plugin = plug(dask)
        dask.add_worker("a")
        dask.submit(tasks(3), ours())

        def planted(*args, **kwargs):
            raise ZeroDivisionError("planted")

        setattr(plugin.dispatcher, event, planted)
        dask.submit(tasks(2, "late"), ours(job="2"))
        dask.cancel(*[key for key, state in dask.states().items() if state == "no-worker"][:1])
        finish_all(dask)

        assert "no-worker" not in dask.states().values()
        failed = [task for task in dask.scheduler.tasks.values() if task.state == "erred"]
        errors = [pickle.loads(task.exception) for task in failed]
        assert all(isinstance(error, RunError) for error in errors)
        assert all("ZeroDivisionError: planted" in str(error) for error in errors)
        assert errors


def test_a_broken_dispatcher_begins_again_with_what_is_there():
    """The watch rebuilds it, and the next run is placed."""
    with DaskState() as dask:
        plugin = plug(dask)
        dask.add_worker("a")
        dask.do(plugin.break_off, ValueError("planted"))
        dask.submit({"x": []}, ours())

        look(dask, plugin)
        dask.submit({"y": []}, ours())

        assert dask.states() == {"x": "erred", "y": "processing"}
        check(dask, plugin)


# --- growth


def test_nothing_grows_with_tasks_that_are_done():
    """After ten thousand tasks of a hundred jobs, all that the plugin keeps is empty."""
    with plugged(Settings("spread", gates={"llm": 64})) as (dask, plugin):
        for name in ("a", "b"):
            dask.add_worker(name, threads=64)
        # Its own checks take Dask a minute for so many, and others have them.
        dask.scheduler.validate = False

        for job in range(100):
            keys = tasks(100, f"job{job}")
            dask.submit(keys, ours(job=str(job), weight=2, quota={"LLM": 99}, gates={"llm": 1}))
            finish_all(dask)
            dask.release(*keys)
        look(dask, plugin)

        core = plugin.dispatcher
        statistics = core.statistics(0.0)
        assert statistics.num_decisions == 10_000
        assert dask.scheduler.tasks == {}
        assert (plugin._tasks, dict(plugin._jobs)) == ({}, {})
        assert (len(core.queue), len(core.ledger), list(core.jobs)) == (0, 0, [])
        assert (core.jobs._declared, dict(core.queue._lanes)) == ({}, {})
        assert core._changed_jobs == set()
        assert core._waiting_lines == []
        assert statistics.gates["llm"].held == 0
        assert len(core.stories._chapters) <= 4096
        assert sum(node.in_flight for node in core.nodes) == 0


def test_no_setting_of_dask_is_relied_on_by_default():
    """Held tasks would fail after no-workers-timeout; by default there is none."""
    assert dask.config.get("distributed.scheduler.no-workers-timeout") is None


@pytest.mark.parametrize(
    "nonsense", [{"weight": -1}, {"weight": "much"}, {"quota": {"threads": -2}}, {"quota": 7}]
)
def test_nonsense_in_an_annotation_is_told_and_harms_nobody(state, nonsense):
    """Anyone may annotate tasks; the job runs with what everyone has."""
    dask, plugin = state
    dask.add_worker("a", threads=2)

    dask.submit(tasks(2), ours(**nonsense))

    assert len(dask.running_on("a")) == 2
    assert len(notices(dask, "annotation")) == 1
    assert not plugin.is_broken


# --- what goes to the worker with a task


def placed(dask, key):
    """Return what the worker is told of a task's placement."""
    return dask.scheduler.tasks[key].annotations[PLACED]


def test_a_task_takes_its_reason_and_its_waits_along(state):
    """The worker hears why it has the task, and after what waits; what it was asked stays."""
    dask, _ = state
    dask.add_worker("a", threads=1)

    dask.submit(tasks(2), ours())
    (first,) = dask.running_on("a")
    dask.finish(first)

    (second,) = dask.running_on("a")
    told = placed(dask, second)
    assert told["reason"].startswith("longest idle")
    assert told["waits"].keys() == {"node", "scheduling"}
    assert all(seconds >= 0 for seconds in told["waits"].values())
    assert dask.scheduler.tasks[second].annotations["sage"]["stage"] == "embed"


def test_what_two_tasks_are_told_is_their_own(state):
    """Tasks of one layer share their annotation's value, and not their waits."""
    dask, _ = state
    dask.add_worker("a", threads=2)

    dask.submit(tasks(2), ours())

    assert placed(dask, "t-0") is not placed(dask, "t-1")
    assert placed(dask, "t-0")["waits"] is not placed(dask, "t-1")["waits"]


def test_a_try_that_was_lost_is_part_of_the_next_ones_waits(state):
    """The time on the worker that died has a name, and what was waited before it counts on."""
    dask, _ = state
    dask.add_worker("a", threads=1)
    dask.submit(tasks(1), ours())
    dask.add_worker("b", threads=1)

    dask.lose_worker("a")

    assert dask.running_on("b") == {"t-0"}
    assert placed(dask, "t-0")["waits"].keys() >= {"lost", "scheduling"}


@pytest.fixture
def clock(monkeypatch):
    """Lend the time that the plugin goes by; it stands still."""
    now = SimpleNamespace(s=100.0)
    fake_time = SimpleNamespace(
        monotonic=lambda: now.s, perf_counter=lambda: now.s, time=lambda: now.s
    )
    for module in (hooks, keeping, placing):
        monkeypatch.setattr(module, "time", fake_time)
    return now


def test_what_came_to_nothing_when_an_input_was_lost_counts_on(clock, state):
    """The time in which the lost input was computed, and what was waited with it there."""
    dask, _ = state
    dask.add_worker("a")
    dask.submit({"x": [], "y": ["x"]}, ours(), wanted=["y"])
    dask.submit(tasks(1), ours(), priority=1)
    clock.s += 7.0
    dask.finish("x")
    assert dask.states() == {"x": "memory", "y": "no-worker", "t-0": "processing"}
    clock.s += 5.0

    dask.lose_worker("a")
    clock.s += 3.0
    dask.add_worker("b", threads=2)
    told_of_x = placed(dask, "x")["waits"]
    clock.s += 2.0
    dask.finish("x")

    assert told_of_x["lost"] == 7.0
    assert placed(dask, "y")["waits"]["node"] == 5.0


def test_what_was_waited_before_another_worker_came_counts_on(clock, state):
    """Tasks for named workers are queued anew then, and have waited all the same."""
    dask, _ = state
    dask.submit(tasks(1), {**ours(), "workers": ["b"]})
    clock.s += 4.0
    dask.add_worker("a")
    clock.s += 2.0

    dask.add_worker("b")

    assert dask.running_on("b") == {"t-0"}
    assert sum(placed(dask, "t-0")["waits"].values()) == 6.0
