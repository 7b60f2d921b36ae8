"""Each count that is wrong is found, whoever got it wrong."""

from __future__ import annotations

import pytest

from sage_dask.errors import InvariantError
from tests.scheduling.building import dispatch, dispatcher, submit, task, worker


@pytest.fixture
def core():
    """Lend a core where something runs, waits, is abandoned, and is held back by a quota."""
    core = dispatcher("spread", worker("w1", "m1", threads=3, GPU=1), worker("w2", "m2", threads=3))
    core.set_gate("llm", 2)
    core.job_arrived("small/1", quota={"threads": 1})
    submit(core, *(task(i, gates={"llm": 1}) for i in range(3)))
    submit(core, *(task(i, "small/1") for i in (10, 11)), task("gpu", resources={"GPU": 1}))
    core.task_abandoned(0, 1.0)
    dispatch(core, 1.0)
    return core


def _lose_a_lease(core):
    core.ledger.close(1)


def _leak_a_resource(core):
    core.nodes.workers["w1"].free["GPU"] -= 1


def _leak_a_gate_slot(core):
    core.gates.take((("llm", 1.0),))


def _miscount_a_job(core):
    core.jobs["rag/1"].num_running += 1


def _miscount_a_queue(core):
    core.jobs["small/1"].num_queued -= 1


def _miscount_a_line(core):
    next(line for line in core.queue.lines.values() if line.size).size += 1


def _miscount_a_node(core):
    core.nodes["m1"].in_flight += 1


def _confuse_the_stages(core):
    node = next(node for node in core.nodes if node.stages)
    node.stages["other"] += 1


def _forget_that_a_node_is_busy(core):
    next(node for node in core.nodes if node.in_flight).idle_since_s = 0.0


def _forget_a_free_node(core):
    ranked = next(line.pool.ranked for line in core.queue.lines.values() if line.pool.ranked)
    ranked.discard(ranked.first)


def _forget_a_supplier(core):
    next(iter(core.queue.lines.values())).pool.suppliers.discard("m1")


def _miscount_busy_threads(core):
    next(iter(core.queue.lines.values())).pool.busy_threads += 1


def _let_a_job_past_its_quota(core):
    entry = core.queue[11]
    entry.lane.line.lanes.put("small/1", entry.lane.order)


def _drop_a_job_with_tasks(core):
    core.jobs.drop(core.jobs["small/1"])


def _keep_an_idle_job(core):
    core.jobs.obtain("gone/1")


def _run_and_wait(core):
    running = next(iter(core.ledger.running.values()))
    core.queue.push(running.task, 0.0, core.jobs[running.task.job])


def _lose_a_worker(core):
    core.ledger.running["gpu"].worker = "w9"


def _overbook(core):
    for _ in range(4):
        core.nodes.take(core.nodes.workers["w1"], task("x"), 1, 0.0)


BUGS = [
    _lose_a_lease,
    _leak_a_resource,
    _leak_a_gate_slot,
    _miscount_a_job,
    _miscount_a_queue,
    _miscount_a_line,
    _miscount_a_node,
    _confuse_the_stages,
    _forget_that_a_node_is_busy,
    _forget_a_free_node,
    _forget_a_supplier,
    _miscount_busy_threads,
    _let_a_job_past_its_quota,
    _drop_a_job_with_tasks,
    _keep_an_idle_job,
    _run_and_wait,
    _lose_a_worker,
    _overbook,
]


def test_right_counts_pass(core):
    """A core that was left alone has no violation."""
    core.validate()


@pytest.mark.parametrize("bug", BUGS)
def test_a_wrong_count_is_found(core, bug):
    """One bug at a time, each is named."""
    bug(core)

    with pytest.raises(InvariantError, match=r"\w+ .*\w+"):
        core.validate()


def test_all_that_is_wrong_is_named(core):
    """The message tells of both."""
    _leak_a_resource(core)
    _leak_a_gate_slot(core)

    with pytest.raises(InvariantError, match=r"worker w1: GPU .* gate 'llm': 3 slots counted, 2"):
        core.validate()


def test_a_policy_that_failed_is_no_drift(core):
    """A stopped core counts right, though its policy is not asked where nodes stand."""

    class FakePolicy(type(core.policy)):
        name = "fake"

        def rank(self, node):
            raise ValueError("no rank")

    core.set_policy(FakePolicy())
    core.task_ended(1, 2.0)

    core.dispatch(2.0)

    assert core.failure is not None
    core.validate()
