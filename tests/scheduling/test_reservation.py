"""The bound on waiting: a task that needs much starts under a stream of small ones.

The bound is the patience and the longest of the tasks that run when it is over.
"""

from __future__ import annotations

import heapq
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sage_dask.scheduling.policies import make_policy
from tests.scheduling.building import dispatch, dispatcher, keys, submit, task, worker

PATIENCE_S = 5.0
LONGEST_S = 2.0
LENGTHS = (0.7, 1.1, LONGEST_S, 0.3)


def stream(core, bigs, smalls, *, depth=12, until_s=60.0):
    """Keep small tasks waiting and running for ever; return when each big one started.

    ``smalls`` are functions of a number and a time that make the next small task of a stream.
    """
    numbers, lengths = itertools.count(), itertools.cycle(LENGTHS)
    ends, started, waiting, now = [], {}, 0, 0.0

    def serve():
        nonlocal waiting
        while waiting < depth:
            for small in smalls:
                core.task_ready(small(next(numbers), now), now)
                waiting += 1
        for key in keys(dispatch(core, now)):
            if key in names:
                started[key] = now
            else:
                waiting -= 1
            heapq.heappush(ends, (now + next(lengths), str(key), key))

    names: set[str] = set()
    serve()
    names.update(big.key for big in bigs)
    for big in bigs:
        core.task_ready(big, now)
    serve()
    while len(started) < len(bigs) and now < until_s:
        wake = core.next_wake_s
        if wake is not None and wake < ends[0][0]:
            assert wake > now
            now = wake
        else:
            now, _, key = heapq.heappop(ends)
            core.task_ended(key, now, seconds=1.0)
        serve()
    return started


def of(job="small/1", **needs):
    """Return a stream of tasks with these needs."""
    return lambda number, now: task(number, job, now=now, rank=(1, number), **needs)


@pytest.mark.parametrize("policy", ["fifo", "round-robin", "spread", "pack", "priority"])
@pytest.mark.parametrize("job", ["small/1", "big/1"])
def test_all_slots_of_a_gate_come_together(policy, job):
    """A task that needs all four slots starts within the bound, beside its own job or another."""
    core = dispatcher(policy, worker("n1", threads=16), patience_s=PATIENCE_S)
    core.set_gate("llm", 4)
    big = task("big", job, gates={"llm": 4}, rank=(0,))

    started = stream(core, [big], [of(gates={"llm": 1})])

    assert started["big"] <= PATIENCE_S + LONGEST_S


@pytest.mark.parametrize("policy", ["fifo", "round-robin", "spread", "pack", "priority"])
@pytest.mark.parametrize(
    ("big", "small"),
    [
        ({"resources": {"GPU": 4}}, {"resources": {"GPU": 1}}),
        ({"threads": 8}, {"threads": 1}),
        ({"threads": 8, "resources": {"GPU": 4}}, {"resources": {"GPU": 1}}),
    ],
)
def test_all_of_a_worker_comes_together(policy, big, small):
    """All GPUs, all threads, or both of one of two workers are free within the bound."""
    core = dispatcher(
        policy,
        worker("n1", threads=8, GPU=4),
        worker("n2", threads=8, GPU=4),
        patience_s=PATIENCE_S,
    )

    started = stream(core, [task("big", "big/1", **big)], [of(**small)], depth=40)

    assert started["big"] <= PATIENCE_S + LONGEST_S


def test_threads_that_have_come_back_are_kept_while_gpus_are_still_to_come():
    """One resource that is complete again is not given away while the other is not."""
    core = dispatcher("spread", worker("n1", threads=3, GPU=1), patience_s=PATIENCE_S)
    submit(core, task("gpu", resources={"GPU": 1}, threads=0), task("thread", threads=2))
    core.task_ready(task("big", "big/1", threads=3, resources={"GPU": 1}), 0.0)
    dispatch(core)
    dispatch(core, PATIENCE_S)
    core.task_ended("thread", 6.0)
    assert dispatch(core, 6.0) == []

    assert submit(core, task("small", now=7.0), now=7.0) == []
    assert submit(core, now=8.0) == []
    core.task_ended("gpu", 9.0)

    assert keys(dispatch(core, 9.0)) == ["big"]


def test_several_tasks_that_need_much_start_one_after_the_other():
    """Three of one job take three times the bound at most."""
    core = dispatcher("spread", worker("n1", threads=16), patience_s=PATIENCE_S)
    core.set_gate("llm", 4)
    bigs = [task(f"big{i}", "big/1", gates={"llm": 4}, rank=(0, i)) for i in range(3)]

    started = stream(core, bigs, [of(gates={"llm": 1})])

    assert len(started) == 3
    assert max(started.values()) <= 3 * (PATIENCE_S + LONGEST_S)


def test_two_jobs_that_overtake_each_other_do_not_keep_their_big_tasks_waiting():
    """Each job has a big task and a stream of small ones; both big ones start."""
    core = dispatcher("spread", worker("n1", threads=16), patience_s=PATIENCE_S)
    core.set_gate("llm", 4)
    jobs = ["a/1", "b/1"]
    bigs = [task(f"big {job}", job, gates={"llm": 4}, rank=(0,)) for job in jobs]

    started = stream(core, bigs, [of(job, gates={"llm": 1}) for job in jobs])

    assert len(started) == 2
    assert max(started.values()) <= 2 * (PATIENCE_S + LONGEST_S)


def test_a_job_at_its_quota_does_not_keep_its_own_big_task_waiting():
    """Four threads of quota come together for a task that needs four."""
    core = dispatcher("spread", worker("n1", threads=16), patience_s=PATIENCE_S)
    core.job_arrived("rag/1", quota={"threads": 4})

    started = stream(core, [task("big", threads=4, rank=(0,))], [of("rag/1")])

    assert started["big"] <= PATIENCE_S + LONGEST_S


def test_patience_is_for_those_whose_turn_it_is():
    """Ten levels below a stream that gains half a level per second, for eighteen seconds none."""
    policy = make_policy("priority", ageing=0.5)
    core = dispatcher(policy, worker("n1", threads=16), patience_s=PATIENCE_S)
    core.set_gate("llm", 4)
    big = task("big", "big/1", gates={"llm": 4})

    started = stream(core, [big], [of(gates={"llm": 1}, priority=10.0)])

    # A level is as fine as the order gets, so the turn comes within one of ten.
    assert (10 - 1) / 0.5 <= started["big"] <= (10 + 1) / 0.5 + PATIENCE_S + 2 * LONGEST_S


def blocked(policy="spread", **options):
    """Return a core with one slot of four held for ever, and a place kept for who needs all."""
    core = dispatcher(policy, worker("n1", threads=16), patience_s=PATIENCE_S, **options)
    core.set_gate("llm", 4)
    submit(core, task("holder", gates={"llm": 1}))
    submit(core, task("big", gates={"llm": 4}))
    assert core.next_wake_s == PATIENCE_S
    dispatch(core, PATIENCE_S)
    assert core.next_wake_s is None
    return core


def small(key="small", job="other/1", **needs):
    """Return a task that came after a place was kept."""
    return task(key, job, now=6.0, **(needs or {"gates": {"llm": 1}}))


def test_a_place_is_kept_from_those_who_need_the_same():
    """And from nobody else."""
    core = blocked()

    assert submit(core, small(), now=6.0) == []
    assert keys(submit(core, small("free", threads=1), now=6.0)) == ["free"]


def test_the_decision_tells_that_a_place_was_kept():
    """In its story and in the statistics, and what was kept is free again afterwards."""
    core = dispatcher("spread", worker("n1", threads=2), patience_s=PATIENCE_S)
    submit(core, task(1), task(2))
    submit(core, task("big", "big/1", threads=2))
    dispatch(core, PATIENCE_S)
    core.task_ready(small("late", threads=1), 6.0)
    core.task_ended(1, 6.0)
    assert dispatch(core, 6.0) == []
    core.task_ended(2, 7.0)

    (start,) = core.dispatch(7.0)

    assert start.key == "big"
    assert any("it is first, and was blocked for 5 s" in line for line in core.why("big", 7.0))
    assert core.statistics(7.0).num_reserved == 1
    core.task_ended("big", 8.0)
    assert keys(dispatch(core, 8.0)) == ["late"]


@pytest.mark.parametrize(
    "event",
    [
        lambda core: core.task_withdrawn("big", 6.0),
        lambda core: core.set_gate("llm", 2),
        lambda core: core.set_quota("rag/1", {"llm": 1}),
        lambda core: core.set_policy("fifo"),
    ],
    ids=["withdrawn", "gate shrunk below its need", "quota below its need", "policy changed"],
)
def test_a_place_is_given_up_when_it_is_of_no_use(event):
    """Others that need the same go at once: nothing is kept for a task that can not come."""
    core = blocked()
    core.task_ready(small(), 6.0)

    event(core)

    assert keys(dispatch(core, 6.0)) == ["small"]


@pytest.mark.parametrize("event", ["paused", "left"])
def test_a_place_is_given_up_when_its_only_worker_is_gone(event):
    """Tasks that share a gate with it do not wait for a worker that may never come back."""
    core = dispatcher("spread", worker("n1", threads=16), worker("gpu", GPU=1))
    core.set_gate("llm", 2)
    needs = {"resources": {"GPU": 1}, "gates": {"llm": 2}}
    submit(core, task("holder", **needs))
    submit(core, task("big", **needs))
    dispatch(core, 6.0)

    if event == "paused":
        core.task_ended("holder", 6.0)
        core.worker_running("gpu", False)
    else:
        core.worker_left("gpu", 6.0)

    assert keys(submit(core, small(), now=6.0)) == ["small"]


def test_another_worker_is_chosen_when_the_one_it_was_kept_on_leaves():
    """And what the first one had is not kept any more."""
    core = dispatcher("spread", worker("a", threads=2), worker("b", threads=2))
    submit(core, *(task(i) for i in range(4)))
    submit(core, task("big", "big/1", threads=2))
    dispatch(core, PATIENCE_S)
    (chosen,) = (w.address for w in core.nodes.workers.values() if w.withheld)
    other = {"a": "b", "b": "a"}[chosen]

    core.worker_left(chosen, 6.0)
    core.task_ready(small("late", threads=1), 6.0)
    for key in list(core.ledger.running):
        core.task_ended(key, 7.0)

    assert dispatch(core, 7.0) == [("big", other)]


def test_a_gate_with_room_for_both_stays_open_to_others():
    """What is kept is what the task needs: one slot of thirty-two, while it waits for a GPU."""
    core = dispatcher("spread", worker("n1", threads=16), worker("gpu", GPU=1))
    core.set_gate("llm", 32)
    needs = {"resources": {"GPU": 1}, "gates": {"llm": 1}}
    submit(core, task("holder", **needs))
    submit(core, task("big", **needs))
    dispatch(core, 6.0)

    assert keys(submit(core, small(), now=6.0)) == ["small"]


@given(st.floats(0.0, 1e7), st.floats(0.001, 100.0))
def test_the_time_to_wake_is_late_enough(since_s, patience_s):
    """Dispatching when it said is not asked for again: rounding makes no shell spin."""
    core = dispatcher("spread", worker("n1", threads=2), patience_s=patience_s, now=since_s)
    submit(core, task(1), now=since_s)
    submit(core, task("big", threads=2), now=since_s)

    wake = core.next_wake_s
    dispatch(core, wake)

    assert core.next_wake_s is None


def test_the_first_task_of_all_gets_the_place():
    """Of two that wait for threads, the more urgent one is not held up by what the other needs."""
    core = dispatcher("priority", worker("n1", threads=4), patience_s=PATIENCE_S)
    submit(core, task("h1"), task("h2"))
    submit(core, task("low", threads=4), task("high", "b/1", threads=3, priority=50.0))
    dispatch(core, PATIENCE_S)

    core.task_ended("h1", 6.0)

    assert keys(dispatch(core, 6.0)) == ["high"]
