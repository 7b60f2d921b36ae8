"""Anything may happen to a dispatcher, in any order; what it promises holds nevertheless.

``SAGE_DASK_EXAMPLES=20000`` runs as many random histories, new ones each time; without it
the same few hundred are run.
"""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sage_dask.scheduling.dispatcher import Dispatcher
from sage_dask.scheduling.load_aware import Pack
from sage_dask.scheduling.nodes import WorkerInfo
from sage_dask.scheduling.policies import make_policy
from sage_dask.scheduling.policy import ClusterView, Placement, Policy, Wait
from sage_dask.scheduling.view import TaskView, demand
from tests.scheduling.closed_loop import (
    LONGEST_S,
    PATIENCE_S,
    SMALL,
    ClosedLoop,
    big,
    wait_of_big_s,
)
from tests.scheduling.machine import DispatcherMachine

EXAMPLES = os.environ.get("SAGE_DASK_EXAMPLES")

OURS = ("fifo", "round-robin", "spread", "pack", "priority")


class TestDispatcher(DispatcherMachine.TestCase):
    """The state machine, as pytest finds it."""

    settings = settings(
        max_examples=int(EXAMPLES or 400),
        stateful_step_count=40,
        deadline=None,
        derandomize=EXAMPLES is None,
        suppress_health_check=list(HealthCheck),
    )


TestDispatcher.runTest = pytest.mark.timeout(0 if EXAMPLES else 240)(TestDispatcher.runTest)


# Bounded starvation


@pytest.mark.parametrize("name", OURS)
def test_a_task_that_needs_all_slots_waits_a_bounded_time(name):
    """It waits for its turn, then for patience, then for the longest of those that run.

    Its turn comes at the latest when each of the two other jobs has been served one task more: a
    new job starts where the others are served.  Then it is first; after ``patience_s`` a place is
    kept, and nobody takes a slot until all have come back, at most one longest task later.
    """
    waited_s = wait_of_big_s(make_policy(name))

    assert waited_s <= 2 * LONGEST_S + PATIENCE_S + LONGEST_S


def test_the_lowest_class_waits_as_long_as_ageing_says():
    """Under a stream ten levels higher, at half a level per second, its turn comes after 20 s.

    Levels are whole: of tasks less than one apart jobs get their shares, which adds one level.
    """
    policy = make_policy("priority", ageing=0.5)

    waited_s = wait_of_big_s(policy, stream_priority=10.0)

    turn_s = (10 + 1) / 0.5
    assert (10 - 1) / 0.5 <= waited_s <= turn_s + 2 * LONGEST_S + PATIENCE_S + LONGEST_S


@pytest.mark.parametrize("name", ["round-robin", "spread", "pack"])
def test_two_jobs_with_a_big_task_each_do_not_reset_each_others_patience(name):
    """Both start after one patience and one longest task for each of the two."""
    loop = ClosedLoop(make_policy(name))
    jobs = ("a/1", "b/1")
    loop.run(lambda number: jobs[number % 2], 10.0)
    keys = [loop.put("a/1", big(4)), loop.put("b/1", big(3))]
    came_s = loop.now_s

    loop.run(lambda number: jobs[number % 2], 60.0)

    bound_s = 2 * (PATIENCE_S + 2 * LONGEST_S)
    assert all(loop.started.get(key, float("inf")) - came_s <= bound_s for key in keys)


@pytest.mark.parametrize("name", ["round-robin", "spread", "pack"])
def test_a_stream_of_new_jobs_does_not_starve_one_that_was_served_before(name):
    """A job that has had one task more than its share gets the next after as much of the others'.

    At four slots and nine jobs at a time that is a matter of seconds.
    """
    loop = ClosedLoop(make_policy(name))
    loop.put("old/0", demand(), takes_s=1e9)
    loop.dispatch()
    loop.run(lambda number: f"new/{number}", 10.0)
    key = loop.put("old/0", SMALL)
    came_s = loop.now_s

    loop.run(lambda number: f"new/{number}", 120.0)

    assert loop.started.get(key, float("inf")) - came_s <= 30.0


# Balance and packing


@given(
    nodes=st.integers(2, 6),
    threads=st.integers(1, 4),
    steps=st.lists(st.tuples(st.integers(0, 8), st.lists(st.integers(0, 50), max_size=6))),
)
@settings(derandomize=True, max_examples=150)
def test_spread_keeps_equal_nodes_within_one_task(nodes, threads, steps):
    """A node that is given a task has at most one more than any other that still has room.

    For nodes alike, tasks of equal known duration that may go anywhere, and no pressure.  While
    none has ended, all nodes are within one task of each other.
    """
    core = Dispatcher("spread")
    for index in range(nodes):
        core.worker_joined(WorkerInfo(f"w{index}", f"n{index}", threads), 0.0)
    in_flight = dict.fromkeys((f"n{index}" for index in range(nodes)), 0)
    running: list[tuple[int, str]] = []
    number = 0
    for at_s, (arrivals, ends) in enumerate(steps):
        for pick in ends:
            if running:
                key, node = running.pop(pick % len(running))
                core.task_ended(key, float(at_s), seconds=1.0)
                in_flight[node] -= 1
        for _ in range(arrivals):
            number += 1
            core.task_ready(TaskView(number, f"job/{number % 2}", "embed"), float(at_s))

        for start in core.dispatch(float(at_s)):
            in_flight[start.node] += 1
            running.append((start.key, start.node))
            others = [n for name, n in in_flight.items() if name != start.node and n < threads]
            assert in_flight[start.node] <= min(others, default=threads) + 1

        if not any(ends for _, ends in steps[: at_s + 1]):
            assert max(in_flight.values()) - min(in_flight.values()) <= 1


@given(nodes=st.integers(2, 6), threads=st.integers(1, 4), load=st.integers(1, 24))
@settings(derandomize=True, max_examples=100)
def test_pack_uses_no_more_nodes_than_the_load_fills(nodes, threads, load):
    """Tasks that come one by one, each within the target wait, open a node only when all are full.

    So k tasks in flight at t threads a node are on ceil(k / t) nodes.
    """
    core = Dispatcher("pack")
    for index in range(nodes):
        core.worker_joined(WorkerInfo(f"w{index}", f"n{index}", threads), 0.0)
    used = set()
    started = 0
    for number in range(min(load, nodes * threads)):
        now_s = float(number)
        core.task_ready(TaskView(number, "job/1", "embed", arrived_s=now_s, ready_s=now_s), now_s)
        starts = core.dispatch(now_s) or core.dispatch(now_s + 0.25)
        used |= {start.node for start in starts}
        started += len(starts)

        assert len(used) == -(-started // threads)


# Found by attack


class SometimesBroken(Policy):
    """Raises when a node has two tasks; a fake of somebody's policy."""

    name = "sometimes-broken"

    def rank(self, node):
        """Fail for a node that has two tasks."""
        if node.in_flight > 1:
            raise ValueError("two are too many")
        return 0

    def place(self, task: TaskView, cluster: ClusterView) -> Placement:
        """Choose the first."""
        return Placement(cluster.best.name, "first")


def test_a_policy_that_raises_after_a_start_does_not_swallow_it():
    """Each task that holds something was told to start."""
    core = Dispatcher(SometimesBroken())
    core.worker_joined(WorkerInfo("w", "n", 4), 0.0)
    for number in range(4):
        core.task_ready(TaskView(number, "job/1", "embed"), 0.0)

    starts = core.dispatch(0.0)

    assert core.failure is not None
    assert [start.key for start in starts] == list(core.ledger.running)


class Reluctant(Policy):
    """Has tasks of the stage ``big`` wait for ever; a fake of somebody's policy."""

    name = "reluctant"

    def place(self, task: TaskView, cluster: ClusterView) -> Placement | Wait:
        """Choose the first, or wait."""
        if task.stage == "big":
            return Wait("never mind", until_s=cluster.now_s + 1)
        return Placement(cluster.best.name, "first")


def test_a_policy_that_waits_for_ever_does_not_close_a_gate_to_others():
    """What is kept for a task is given up when its policy leaves it waiting all the same."""
    core = Dispatcher(Reluctant(), patience_s=1.0)
    core.worker_joined(WorkerInfo("w", "n", 4), 0.0)
    core.set_gate("chat", 1)
    core.task_ready(TaskView("first", "job/1", "small", SMALL), 0.0)
    core.dispatch(0.0)
    core.task_ready(TaskView("big", "job/1", "big", demand(gates={"chat": 1}, threads=2)), 0.0)
    core.dispatch(0.0)
    core.dispatch(2.0)
    core.task_ended("first", 3.0, seconds=3.0)
    core.dispatch(3.0)

    core.task_ready(TaskView("small", "job/1", "small", SMALL), 3.0)

    assert [start.key for start in core.dispatch(3.0)] == ["small"]


def test_a_long_life_leaves_nothing_behind_in_the_queue():
    """Ever new kinds of tasks, cancelled or done, of a job that stays, take bounded room."""
    core = Dispatcher("spread")
    core.worker_joined(WorkerInfo("w", "n", 4), 0.0)
    core.task_ready(TaskView("stays", "job/1", "embed", demand({"GPU": 1})), 0.0)
    for number in range(200):
        what = demand(workers=frozenset({"w", f"w{number}"}))
        core.task_ready(TaskView(number, "job/1", "embed", what), float(number))
        for start in core.dispatch(float(number)):
            core.task_ended(start.key, float(number), seconds=0.1)

    core.tick(200.0)

    assert len(core.queue) == 1
    assert len(core.queue.lines) < 40


def test_the_node_that_was_kept_is_among_those_that_the_policy_chooses_from():
    """A closed node is not opened while the open one that was kept has room (found by chance)."""
    machine = DispatcherMachine()
    needs = [demand(), demand(gates={"chat": 1}), demand(gates={"chat": 3})]
    needs.append(demand(gates={"chat": 1, "db": 1}))
    machine.begin(policy=Pack(1.0, stay_open_s=0.5), workers=2, kinds=needs, number=0)

    for _ in range(4):
        machine.much_time_passes()

    assert not machine.true.waiting
