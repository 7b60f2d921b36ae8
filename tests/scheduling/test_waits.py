"""What tasks waited for: clocks, and what the dispatcher says at a start."""

from __future__ import annotations

import pytest

from sage_dask.scheduling.policy import Placement, Policy, Wait
from sage_dask.scheduling.waits import (
    GATE,
    NODE,
    POLICY,
    QUOTA,
    SCHEDULING,
    WaitClock,
    between,
)
from tests.scheduling.building import URL, asking, dispatcher, task, worker


def waits_of(core, now_s):
    """Dispatch, and return what each task that starts has waited for."""
    return {start.key: start.waits for start in core.dispatch(now_s)}


def test_a_clock_counts_by_one_reason_at_a_time():
    """The wait of a task is what the clock read at its end less what it read at its start."""
    clock = WaitClock()
    clock.turn(NODE, 10.0)
    start = clock.read(11.0)

    clock.turn(GATE, 13.0)

    assert between(start, clock.read(14.5)) == {NODE: 2.0, GATE: 1.5}


def test_a_task_that_starts_at_once_has_waited_for_nothing():
    """There was room when it came."""
    core = dispatcher("spread", worker("a"))
    core.task_ready(task(1), 5.0)

    assert waits_of(core, 5.0) == {1: {}}


def test_until_anybody_looks_a_task_waits_for_the_scheduler():
    """The first round comes a moment after the task."""
    core = dispatcher("spread", worker("a"))
    core.task_ready(task(1), 5.0)

    assert waits_of(core, 5.5) == {1: {SCHEDULING: 0.5}}


def test_a_task_waits_for_a_node_while_all_are_busy():
    """From the round that found no room to the one that did."""
    core = dispatcher("spread", worker("a"))
    core.task_ready(task(1), 0.0)
    core.task_ready(task(2), 0.0)
    core.dispatch(0.0)

    core.task_ended(1, 3.0)

    assert waits_of(core, 3.0) == {2: {NODE: 3.0}}


def test_a_task_waits_for_a_gate_and_then_for_a_node():
    """Each second goes to what was in the way in it."""
    core = dispatcher("spread", worker("a"))
    core.set_gate("llm", 0)
    core.task_ready(task(1, gates={"llm": 1}), 0.0)
    core.dispatch(0.0)
    core.task_ready(task(2, "etl/1"), 1.0)
    core.dispatch(1.0)

    core.set_gate("llm", 1)
    core.dispatch(4.0)
    core.task_ended(2, 6.0)

    assert waits_of(core, 6.0) == {1: {GATE: 4.0, NODE: 2.0}}


def test_a_model_server_that_is_closed_is_a_gate():
    """Its tasks wait for room for their requests."""
    core = dispatcher("spread", worker("a"))
    core.set_gate(URL, 0)
    core.task_ready(asking(1), 0.0)
    core.dispatch(0.0)

    core.set_gate(URL, 8)

    assert waits_of(core, 2.0) == {1: {GATE: 2.0}}


def test_a_job_at_its_quota_waits_for_itself_and_others_do_not():
    """The line moves on; what is held back by its own job waits for that alone."""
    core = dispatcher("spread", worker("a", threads=2))
    core.job_arrived("rag/1", quota={"threads": 1})
    core.task_ready(task(1), 0.0)
    core.task_ready(task(2), 0.0)
    core.task_ready(task(3, "etl/1"), 0.0)
    core.task_ready(task(4, "etl/1"), 0.0)
    core.dispatch(0.0)

    core.task_ended(3, 2.0)
    other = waits_of(core, 2.0)
    core.task_ended(1, 5.0)

    assert other == {4: {NODE: 2.0}}
    assert waits_of(core, 5.0) == {2: {QUOTA: 5.0}}


def test_a_quota_that_is_lifted_leaves_the_wait_for_a_node():
    """Before and after are told apart."""
    core = dispatcher("spread", worker("a"))
    core.set_quota("rag/1", {"threads": 0.5})
    core.task_ready(task(1), 0.0)
    core.task_ready(task(2, "etl/1"), 0.0)
    core.dispatch(0.0)

    core.set_quota("rag/1", {})
    core.dispatch(4.0)
    core.task_ended(2, 7.0)

    assert waits_of(core, 7.0) == {1: {QUOTA: 4.0, NODE: 3.0}}


def test_a_paused_job_starts_nothing_until_it_is_resumed():
    """What waits says so, others go on, and the pause counts as the job's own doing."""
    core = dispatcher("spread", worker("a", threads=4))
    core.set_paused("rag/1", True)
    core.task_ready(task(1), 0.0)
    core.task_ready(task(2, "etl/1"), 0.0)

    assert list(waits_of(core, 0.0)) == [2]
    assert "its job is paused" in core.why(1, 0.0)[-1]
    core.set_paused("rag/1", False)
    assert waits_of(core, 9.0) == {1: {QUOTA: 9.0}}


def test_a_pause_outlives_the_tasks_of_its_job():
    """A job between two stages has no tasks for a moment, and is still paused."""
    core = dispatcher("spread", worker("a"))
    core.task_ready(task(1), 0.0)
    core.dispatch(0.0)
    core.set_paused("rag/1", True)
    core.task_ended(1, 1.0)

    core.task_ready(task(2), 1.0)

    assert core.dispatch(1.0) == []
    assert core.statistics(1.0).paused == ["rag/1"]


def test_a_task_that_is_raised_keeps_what_it_has_waited():
    """It changes its place, and not when it came."""
    core = dispatcher("priority", worker("a"))
    core.task_ready(task(1), 0.0)
    core.task_ready(task(2), 0.0)
    core.dispatch(0.0)

    core.task_raised(2, 5.0)
    core.task_ended(1, 3.0)

    assert waits_of(core, 3.0) == {2: {NODE: 3.0}}


@pytest.mark.parametrize("seconds", [0.5, 2.0])
def test_a_policy_that_waits_is_what_was_waited_for(seconds):
    """There was room, and the policy left it."""

    class Patient(Policy):
        name = "patient"

        def place(self, task, cluster):
            if cluster.now_s < seconds:
                return Wait("not yet", until_s=seconds)
            return Placement(cluster.best.name, "now")

    core = dispatcher(Patient(), worker("a"))
    core.task_ready(task(1), 0.0)
    core.dispatch(0.0)

    assert waits_of(core, seconds) == {1: {POLICY: seconds}}


def test_the_latest_decisions_are_kept_to_be_looked_at():
    """With what started where, and why; only the last few."""
    core = dispatcher("spread", worker("a", node="m1", threads=100))
    for key in range(100):
        core.task_ready(task(key), 0.0)
    core.dispatch(3.0)

    latest = core.statistics(3.0).latest

    assert [decision.key for decision in latest] == list(range(36, 100))
    assert (latest[-1].node, latest[-1].job, latest[-1].at_s) == ("m1", "rag/1", 3.0)
    assert latest[-1].reason.startswith("least loaded")
