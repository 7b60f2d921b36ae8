"""The most urgent task first, and the least urgent one after a bounded wait."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sage_dask.errors import PlanError
from sage_dask.scheduling.load_aware import Pack, Spread
from sage_dask.scheduling.policies import make_policy
from sage_dask.scheduling.policy import Wait
from sage_dask.scheduling.priority import Priority
from tests.scheduling.building import (
    dispatch,
    dispatcher,
    keys,
    offered,
    submit,
    task,
    view,
    worker,
)


def serve(core, first, now=0.0, step=1.0, most=500):
    """End what runs, one task per step, and return all keys in the order of their starts."""
    order = [*first]
    while core.ledger.running and len(order) < most:
        now += step
        core.task_ended(next(iter(core.ledger.running)), now)
        order += keys(dispatch(core, now))
    return order


def test_the_most_urgent_task_is_first():
    """Of tasks that came together, priority decides; others keep the order in which they came."""
    core = dispatcher("priority", worker("a"))
    levels = [0.0, 5.0, -1.0, 5.0, 1.0]

    order = serve(core, keys(submit(core, *(task(i, priority=p) for i, p in enumerate(levels)))))

    assert order == [1, 3, 4, 0, 2]


def test_waiting_raises_a_task_by_the_ageing_rate():
    """At one level per second, a task that came eight seconds earlier overtakes five levels."""
    core = dispatcher(Priority(ageing=1.0), worker("a"))
    first = keys(submit(core, task("running", priority=99.0)))

    core.task_ready(task("old", priority=0.0, now=0.0), 0.0)
    core.task_ready(task("new", priority=5.0, now=8.0), 8.0)

    assert serve(core, first, now=8.0) == ["running", "old", "new"]


@given(
    a=st.tuples(st.floats(0, 1e4), st.floats(-10, 10)),
    b=st.tuples(st.floats(0, 1e4), st.floats(-10, 10)),
    later=st.integers(0, 10**4),
)
def test_the_order_of_two_tasks_never_changes(a, b, later):
    """The class is a fixed number, however much later it is computed, and ranks as ageing does."""
    policy = Priority(ageing=0.5)
    one, other = (task(i, now=now, priority=p) for i, (now, p) in enumerate((a, b)))

    classes = policy.precedence(one), policy.precedence(other)

    def level(each):
        return each.priority + 0.5 * (2e4 + later - each.arrived_s)

    if level(one) >= level(other) + 1:
        assert classes[0] < classes[1]
    elif level(one) > level(other):
        assert classes[0] <= classes[1]


def test_the_lowest_class_waits_a_bounded_time_under_a_permanent_stream_of_the_highest():
    """A task ten levels below starts once (10 + 1) / ageing seconds and what was there are over."""
    core = dispatcher(Priority(ageing=1.0), worker("a"))
    numbers = itertools.count()
    submit(core, task(next(numbers), priority=10.0))
    core.task_ready(task("low", priority=0.0), 0.0)

    for now in range(1, 60):
        for _ in range(2):
            core.task_ready(task(next(numbers), priority=10.0, now=float(now)), float(now))
        core.task_ended(next(iter(core.ledger.running)), float(now))
        if keys(dispatch(core, float(now))) == ["low"]:
            break

    # Two come per second and one is served, so eleven seconds' worth takes twice as long.
    assert 10 < now <= 2 * (10 + 1) + 1


def test_within_a_level_jobs_get_their_fair_shares():
    """A job with a hundred waiting tasks does not shut out one of the same priority."""
    core = dispatcher("priority", worker("a"))
    many = [task(("big", i), "big/1", priority=1.0) for i in range(100)]
    few = [task(("small", i), "small/1", priority=1.0) for i in range(5)]

    order = serve(core, keys(submit(core, *many, *few)), most=20)

    assert [name for name, _ in order[:10]].count("small") == 5


def test_nodes_are_ranked_and_chosen_by_the_placing_policy():
    """With pack it packs, with spread it spreads, and waits where pack waits."""
    views = [view("a", outstanding_s=4.0, in_flight=3, idle_since_s=None), view("b")]

    packed = make_policy("priority", place="pack")
    spread = make_policy("priority", place="spread")
    waiting = offered(packed, [view("b")], queued_s=0.1, busy_threads=4.0)

    assert packed.place(task(1), offered(packed, views)).node == "a"
    assert spread.place(task(1), offered(spread, views)).node == "b"
    assert isinstance(packed.place(task(1), waiting), Wait)
    assert packed.rank(views[0]) == Pack().rank(views[0])
    assert spread.rank(views[0]) == Spread().rank(views[0])


def test_the_reason_names_the_priority_and_the_placement():
    """Both decisions are told."""
    policy = Priority()

    reason = policy.place(task(1, priority=2.0), offered(policy, [view("a")])).reason

    assert reason == "priority 2; least loaded: 0.00 tasks per thread"


@pytest.mark.parametrize("ageing", [0.0, -1.0, float("nan")])
def test_ageing_must_grow(ageing):
    """Without it the lowest class could wait for ever."""
    with pytest.raises(PlanError, match="above 0"):
        Priority(ageing=ageing)


def test_a_raised_task_overtakes():
    """A waiting task whose result a more urgent one needs goes as if it were that urgent."""
    core = dispatcher("priority", worker("a"))
    first = keys(
        submit(core, task("running", priority=9.0), task("x", priority=1.0), task("needed"))
    )

    core.task_raised("needed", 5.0)

    assert serve(core, first) == ["running", "needed", "x"]


def test_lowering_a_priority_is_no_raise():
    """A task keeps the highest priority that anybody gave it."""
    core = dispatcher("priority", worker("a"))
    submit(core, task("running", priority=9.0), task("needed"))
    core.task_raised("needed", 5.0)

    core.task_raised("needed", 2.0)
    core.task_raised("unknown", 2.0)

    assert core.queue["needed"].task.priority == 5.0
