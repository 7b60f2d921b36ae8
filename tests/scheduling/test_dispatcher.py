"""The core as a whole: events in, instructions with a reason out."""

from __future__ import annotations

import pytest

from sage_dask.errors import PlanError, PolicyError
from sage_dask.scheduling.load_aware import Pack
from sage_dask.scheduling.policy import Placement, Policy, Wait
from tests.scheduling.building import dispatch, dispatcher, keys, submit, task, worker


class FakePolicy(Policy):
    """Does what it is told to when asked the given question, and is right otherwise."""

    name = "mine"

    def __init__(self, when, does):
        self._does = {when: does}

    def _do(self, when, otherwise):
        return self._does.get(when, lambda: otherwise)()

    def precedence(self, task):
        """Put tasks in a class."""
        return self._do("precedence", 0.0)

    def rank(self, node):
        """Put nodes in order."""
        return self._do("rank", 0)

    def place(self, task, cluster):
        """Choose the first node."""
        return self._do("place", Placement(cluster.best.name, "first"))


def raising():
    """Do what policies must not."""
    raise ValueError("no idea")


WRONG = [
    pytest.param("place", raising, "raised ValueError", id="place raises"),
    pytest.param("rank", raising, "raised ValueError", id="rank raises"),
    pytest.param("precedence", raising, "raised ValueError", id="precedence raises"),
    pytest.param("place", lambda: None, "answered None", id="place returns None"),
    pytest.param("place", lambda: Placement("x", "?"), "placed task", id="unknown node"),
]


# What starts, and when


def test_a_start_says_which_task_where_and_why():
    """The worker's address, the node's name and a sentence."""
    core = dispatcher("spread", worker("tcp://1", "m1"))
    core.task_ready(task("a"), 0.0)

    (start,) = core.dispatch(0.0)

    assert (start.key, start.worker, start.node) == ("a", "tcp://1", "m1")
    assert start.reason == "least loaded: 0.00 tasks per thread"


def test_never_more_starts_than_there_is_room_for():
    """The rest follows as tasks end, one for one."""
    core = dispatcher("spread", worker("a", threads=2), worker("b"))
    assert len(submit(core, *map(task, range(5)))) == 3

    core.task_ended(0, 1.0)

    assert len(dispatch(core, 1.0)) == 1
    assert dispatch(core, 1.0) == []


def test_duplicate_and_late_events_change_nothing():
    """Ready twice, ready while running, ended twice, and events about what is not there."""
    core = dispatcher("spread", worker("a", threads=4))
    core.task_ready(task(1), 0.0)
    assert submit(core, task(1)) == [(1, "a")]

    core.task_ready(task(1), 1.0)
    assert dispatch(core, 1.0) == []
    core.task_ended(1, 2.0)
    core.task_ended(1, 2.0)
    core.task_withdrawn(1, 2.0)
    core.task_abandoned(1, 2.0)
    core.abandoned_ended(1, "a", 2.0)
    core.task_raised(1, 9.0)
    core.worker_running("z", is_running=False)
    core.node_measured("z", 0.5, 0.5, 2.0)

    assert core.worker_left("z", 2.0) == []
    assert dispatch(core, 2.0) == []
    assert core.statistics(2.0).num_decisions == 1


def test_a_withdrawn_task_does_not_start():
    """Nor does it count as waiting."""
    core = dispatcher("spread", worker("a"))
    submit(core, task(1), task(2), task(3))

    core.task_withdrawn(2, 1.0)
    core.task_ended(1, 1.0)

    assert keys(dispatch(core, 1.0)) == [3]


def test_keys_may_be_anything_hashable():
    """Dask's are strings and tuples."""
    core = dispatcher("spread", worker("a", threads=3))

    assert keys(submit(core, task("s"), task(("t", 1)), task(3))) == ["s", ("t", 1), 3]


def test_workers_may_be_named_by_a_task():
    """It waits for one of those, though others are idle."""
    core = dispatcher("spread", worker("w1", "m"), worker("w2", "m"), worker("w3"))
    picky = {"workers": frozenset({"w2"})}
    assert submit(core, task(1, **picky), task(2, **picky)) == [(1, "m")]

    core.task_ended(1, 1.0)
    (start,) = core.dispatch(1.0)

    assert (start.key, start.worker) == (2, "w2")


# Gates


def test_a_gate_holds_for_the_whole_cluster():
    """Four slots are four tasks, however many threads there are."""
    core = dispatcher("spread", *(worker(f"n{i}", threads=8) for i in range(4)))
    core.set_gate("llm", 4)

    assert len(submit(core, *(task(i, gates={"llm": 1}) for i in range(64)))) == 4


@pytest.mark.parametrize("parallelism", [1, 4, 16])
def test_more_tasks_than_slots_all_start_in_the_end(parallelism):
    """Up to four times as many as the gate lets through are a queue, never a standstill."""
    core = dispatcher("spread", worker("a", threads=16))
    core.set_gate("llm", 4)
    done = []
    running = keys(submit(core, *(task(i, gates={"llm": 1}) for i in range(parallelism))))

    while running and len(done) < 100:
        assert len(running) <= 4
        done.append(running.pop(0))
        core.task_ended(done[-1], float(len(done)))
        running += keys(dispatch(core, float(len(done))))

    assert sorted(done) == list(range(parallelism))


def test_a_gate_below_what_is_held_lets_nothing_start_until_enough_came_back():
    """And what runs goes on."""
    core = dispatcher("spread", worker("a", threads=9))
    core.set_gate("llm", 4)
    submit(core, *(task(i, gates={"llm": 1}) for i in range(6)))

    core.set_gate("llm", 2)
    for key in range(2):
        core.task_ended(key, 1.0)
        assert dispatch(core, 1.0) == []
    core.task_ended(2, 1.0)

    assert keys(dispatch(core, 1.0)) == [4]


def test_a_closed_gate_stops_and_an_opened_one_starts():
    """Zero slots are closed; tasks that do not need it go on."""
    core = dispatcher("spread", worker("a", threads=9))
    core.set_gate("llm", 0)
    assert keys(submit(core, task(1, gates={"llm": 1}), task(2))) == [2]

    core.set_gate("llm", 1)

    assert keys(dispatch(core)) == [1]


def test_nested_gates_are_taken_at_once_or_not_at_all():
    """A task that waits for one holds no slot of the other, so nobody waits in a circle."""
    core = dispatcher("spread", worker("a", threads=9))
    core.set_gate("outer", 2)
    core.set_gate("inner", 1)
    both = {"gates": {"outer": 1, "inner": 1}}

    placed = submit(core, task(1, **both), task(2, **both), task(3, gates={"outer": 1}))

    assert keys(placed) == [1, 3]
    core.task_ended(1, 1.0)
    assert keys(dispatch(core, 1.0)) == [2]


# Loss, cancellation and return


def test_a_lost_worker_gives_back_all_that_its_tasks_held():
    """Its tasks are named, and start elsewhere once they are ready again."""
    core = dispatcher("spread", worker("a", threads=2), worker("b", threads=2))
    core.set_gate("llm", 4)
    placed = submit(core, *(task(i, gates={"llm": 1}) for i in range(4)))
    on_a = [key for key, node in placed if node == "a"]

    assert core.worker_left("a", 1.0) == on_a

    assert core.gates["llm"].held == 2
    assert submit(core, *(task(key, gates={"llm": 1}) for key in on_a), now=1.0) == []
    core.worker_joined(worker("c", threads=2), 2.0)
    assert dispatch(core, 2.0) == [(key, "c") for key in on_a]


def test_a_cancelled_task_that_runs_keeps_what_it_holds_until_its_end_is_known():
    """Its thread and its gate slot are taken for as long as the worker is at it."""
    core = dispatcher("spread", worker("a"), worker("b"))
    core.set_gate("llm", 1)
    submit(core, task(1, gates={"llm": 1}), task(2, gates={"llm": 1}))

    core.task_abandoned(1, 1.0)
    assert dispatch(core, 1.0) == []
    assert core.statistics(1.0).num_abandoned == 1
    core.task_ended(1, 2.0)
    assert dispatch(core, 2.0) == []
    core.abandoned_ended(1, "a", 3.0)

    assert keys(dispatch(core, 3.0)) == [2]


def test_a_cancelled_task_gives_back_when_its_worker_is_lost():
    """Whatever ran there runs no more."""
    core = dispatcher("spread", worker("a"))
    core.set_gate("llm", 1)
    submit(core, task(1, gates={"llm": 1}))
    core.task_abandoned(1, 1.0)

    assert core.worker_left("a", 2.0) == []

    assert core.gates["llm"].held == 0
    assert core.statistics(2.0).num_abandoned == 0
    dispatch(core, 2.0)


def test_a_cancelled_task_that_is_wanted_again_on_the_same_worker_is_taken_over():
    """It holds its things once; the end that the worker reports is that of the new one."""
    core = dispatcher("spread", worker("a", threads=2))
    submit(core, task(1))
    core.task_abandoned(1, 1.0)

    assert submit(core, task(1), now=2.0) == [(1, "a")]

    assert core.nodes.workers["a"].free["threads"] == 1
    core.abandoned_ended(1, "a", 3.0)
    assert core.nodes.workers["a"].free["threads"] == 1
    core.task_ended(1, 4.0)
    assert core.nodes.workers["a"].free["threads"] == 2


def test_a_paused_worker_gets_nothing_until_it_goes_on():
    """What it runs goes on."""
    core = dispatcher("spread", worker("a", threads=2))
    submit(core, task(1))
    core.worker_running("a", is_running=False)
    assert submit(core, task(2)) == []

    core.worker_running("a", is_running=True)

    assert keys(dispatch(core)) == [2]


def test_a_worker_that_is_announced_twice_keeps_what_its_tasks_hold():
    """A second announcement of the same worker is no new one."""
    core = dispatcher("spread", worker("a"))
    submit(core, task(1))

    core.worker_joined(worker("a"), 1.0)

    assert submit(core, task(2), now=1.0) == []


def test_a_worker_without_threads_is_no_reason_to_stop():
    """Tasks go to those that have some."""
    core = dispatcher("spread", worker("a", threads=0), worker("b"))

    assert submit(core, task(1)) == [(1, "b")]


# Policies that change, and policies that do wrong


def test_queued_work_follows_a_new_policy_at_once():
    """What waits is put in the new policy's order, and nothing is lost."""
    core = dispatcher("fifo", worker("a"), worker("b", threads=4), worker("c", threads=4))
    submit(core, *(task(("first", i)) for i in range(9)))
    submit(core, *(task(("more", i), priority=float(i)) for i in range(4)), now=1.0)

    core.set_policy("priority")
    order = []
    for key in [("first", i) for i in range(9)]:
        core.task_ended(key, 2.0)
        order += keys(dispatch(core, 2.0))

    assert order == [("more", i) for i in (3, 2, 1, 0)]
    assert core.statistics(2.0).decisions == {"fifo": 9, "priority": 4}


def test_a_policy_that_waits_is_not_asked_by_another_name():
    """Work that pack held back is placed when spread takes over."""
    core = dispatcher(Pack(target_wait_s=60.0), worker("a"), worker("b"))
    assert keys(submit(core, task(1), task(2))) == [1]
    assert core.next_wake_s == 60.0

    core.set_policy("spread")

    assert dispatch(core, 1.0) == [(2, "b")]
    assert core.next_wake_s is None


def test_an_unknown_policy_changes_nothing():
    """The one that decides goes on."""
    core = dispatcher("fifo", worker("a"))

    with pytest.raises(PlanError, match="unknown policy"):
        core.set_policy("nonsense")

    assert core.policy.name == "fifo"
    assert keys(submit(core, task(1))) == [1]


@pytest.mark.parametrize(("when", "does", "message"), WRONG)
def test_a_wrong_policy_stops_the_dispatcher(when, does, message):
    """Nothing starts any more; the error has the policy's name and where it happened."""
    core = dispatcher(FakePolicy(when, does), worker("a"))
    core.task_ready(task(1), 0.0)

    assert core.dispatch(0.0) == []

    assert isinstance(core.failure, PolicyError)
    assert str(core.failure).startswith(f"policy 'mine' {message}")
    assert (does is raising) == ("Traceback" in str(core.failure))
    assert core.dispatch(1.0) == []
    assert core.next_wake_s is None
    assert core.statistics(1.0).num_policy_errors == 1


@pytest.mark.parametrize(("when", "does", "message"), WRONG)
def test_work_goes_on_when_another_policy_is_set(when, does, message):
    """Nothing that waits is lost."""
    core = dispatcher(FakePolicy(when, does), worker("a", threads=2))
    core.task_ready(task(1), 0.0)
    core.dispatch(0.0)
    core.task_ready(task(2), 0.0)

    core.set_policy("spread")

    assert core.failure is None
    assert keys(dispatch(core)) == [1, 2]


@pytest.mark.parametrize(("when", "does", "message"), WRONG)
def test_a_wrong_policy_can_fall_back_to_fifo(when, does, message):
    """The task starts all the same, and a notice tells why and what to do."""
    core = dispatcher(FakePolicy(when, does), worker("a"), on_policy_error="fallback")

    assert keys(submit(core, task(1), now=1.0)) == [1]

    assert core.policy.name == "fifo"
    assert core.failure is None
    (notice,) = core.tick(1.0)
    assert notice.kind == "policy"
    assert notice.text.startswith(f"policy 'mine' {message}")
    assert notice.text.endswith("from now on 'fifo' places the tasks; set another policy")


def test_a_slow_policy_is_a_wrong_one():
    """By the clock that the shell gives."""
    moments = iter([0.0, 5.0])
    core = dispatcher("spread", worker("a"), timer=lambda: next(moments))

    assert core.dispatch(0.0) == []
    core.task_ready(task(1), 0.0)
    core.dispatch(0.0)

    assert "is too slow" in str(core.failure)


def test_switching_to_a_wrong_policy_falls_back_too():
    """Also when it raises while what waits is put in order."""
    core = dispatcher("spread", worker("a"), on_policy_error="fallback")
    submit(core, *map(task, range(4)))

    core.set_policy(FakePolicy("precedence", raising))
    core.task_ended(0, 1.0)

    assert core.policy.name == "fifo"
    assert keys(dispatch(core, 1.0)) == [1]


def test_ranks_that_can_not_be_compared_are_the_policys_fault():
    """A number for one node and a name for another is an error of the policy, told as one."""
    ranks = iter([1, "two"] * 9)
    core = dispatcher(FakePolicy("rank", lambda: next(ranks)), worker("a"), worker("b"))
    core.task_ready(task(1), 0.0)

    core.dispatch(0.0)

    assert "mine" in str(core.failure)


def test_a_policy_without_a_name_is_refused():
    """When it is set, and not as an AttributeError when the first task starts."""

    class Nameless(Policy):
        def place(self, task, cluster):
            return Placement(cluster.best.name, "first")

    with pytest.raises(PlanError, match="name"):
        dispatcher(Nameless())


def test_a_policy_may_wait_for_a_time():
    """Dispatch is asked for then, and earlier events ask again anyway."""
    answers = iter([Wait("not yet", 7.0), Wait("not yet", 7.0), Placement("a", "now")])
    core = dispatcher(FakePolicy("place", lambda: next(answers)), worker("a"))
    assert submit(core, task(1)) == []
    assert core.next_wake_s == 7.0

    assert dispatch(core, 3.0) == []

    assert keys(dispatch(core, 7.0)) == [1]
    assert core.next_wake_s is None


# What is told


def unplaceable(core, until_s, since_s=0.0):
    """Tick once a second; return when something was told, and what."""
    told = []
    for now in range(int(since_s), int(until_s) + 1):
        dispatch(core, float(now))
        told += [(now, notice.text) for notice in core.tick(float(now))]
    return told


def test_what_nothing_can_serve_is_told_within_five_seconds_and_once():
    """Counted from when the cluster could not any more."""
    core = dispatcher("spread", worker("a", GPU=1), worker("b"))
    submit(core, task("running", resources={"GPU": 1}))
    core.task_ready(task("waits", resources={"GPU": 1}), 0.0)
    assert unplaceable(core, 9.0) == []

    core.worker_left("a", 10.0)

    ((when, text),) = unplaceable(core, 60.0, since_s=10.0)
    assert when <= 15
    assert "each needs GPU=1, threads=1" in text


def test_it_is_told_again_after_it_was_cured_and_came_back():
    """A second loss is news."""
    core = dispatcher("spread", worker("a"))
    core.task_ready(task(1, resources={"GPU": 1}), 0.0)
    assert len(unplaceable(core, 9.0)) == 1

    core.worker_joined(worker("g", threads=0, GPU=1), 10.0)
    core.worker_left("g", 10.0)
    core.worker_joined(worker("g", GPU=1), 10.0)
    core.task_ready(task(2, resources={"GPU": 1}), 10.0)
    assert unplaceable(core, 19.0, since_s=10.0) == []
    core.worker_left("g", 20.0)

    assert len(unplaceable(core, 40.0, since_s=20.0)) == 1


def test_a_short_absence_is_not_told():
    """A worker that is back within a second was never missed."""
    core = dispatcher("spread", worker("b"))
    core.task_ready(task(1, resources={"GPU": 1}), 0.0)
    unplaceable(core, 1.0)

    core.worker_joined(worker("a", GPU=1), 1.5)

    assert unplaceable(core, 9.0, since_s=2.0) == []


def test_a_gate_smaller_than_a_need_is_told():
    """Five slots of four never come together."""
    core = dispatcher("spread", worker("a"))
    core.set_gate("llm", 4)
    core.task_ready(task(1, gates={"llm": 5}), 0.0)

    ((when, text),) = unplaceable(core, 9.0)

    assert when <= 5
    assert "5 slots of gate 'llm', whose limit is 4" in text


def test_a_quota_smaller_than_a_need_is_told():
    """Two threads are never within a quota of one, and nobody would know."""
    core = dispatcher("spread", worker("a", threads=4))
    core.job_arrived("rag/1", quota={"threads": 1})
    core.task_ready(task(1, threads=2), 0.0)

    assert len(unplaceable(core, 9.0)) == 1


def test_a_task_that_only_waits_is_never_told():
    """A full cluster is not an impossible one."""
    core = dispatcher("spread", worker("a"))
    submit(core, task(1), task(2))

    assert unplaceable(core, 60.0) == []


def test_the_story_of_a_task_is_told_from_first_to_last():
    """With how long ago, what, and why."""
    core = dispatcher("spread", worker("a"))
    core.job_arrived("rag/1")
    submit(core, task(1))
    core.worker_left("a", 2.0)
    core.task_ready(task(1), 2.0)
    core.worker_joined(worker("b"), 3.0)
    dispatch(core, 3.0)
    assert core.why(1, 4.0)[-1].split(maxsplit=1)[1] == "running on b"

    core.task_ended(1, 5.0, seconds=2.0)

    assert core.why(1, 10.0) == [
        "  10.000 s ago  queued",
        "  10.000 s ago  started on a (least loaded: 0.00 tasks per thread)",
        "   8.000 s ago  lost with its worker (on a)",
        "   8.000 s ago  queued",
        "   7.000 s ago  started on b (least loaded: 0.00 tasks per thread)",
        "   5.000 s ago  done",
    ]


def test_the_story_of_a_cancelled_task_tells_its_end():
    """Cancelled is not over."""
    core = dispatcher("spread", worker("a"))
    submit(core, task(1))
    core.task_abandoned(1, 1.0)
    core.abandoned_ended(1, "a", 2.0)

    assert [line.split("ago  ")[1] for line in core.why(1, 2.0)][2:] == [
        "cancelled (runs on, and keeps what it holds until then)",
        "ended after it was cancelled",
    ]


def test_statistics_count_everything():
    """Waiting, running, cancelled; by policy, gate, job and node; idle since when."""
    core = dispatcher("spread", worker("w1", "m1", threads=2), worker("w2", "m2"))
    core.set_gate("llm", 3)
    submit(core, *(task(i, gates={"llm": 1}) for i in range(4)))
    core.task_abandoned(0, 1.0)
    core.task_ended(1, 2.0)
    core.task_withdrawn(3, 2.0)

    counts = core.statistics(5.0)

    assert (counts.policy, counts.num_queued, counts.num_running) == ("spread", 0, 1)
    assert (counts.num_abandoned, counts.num_decisions) == (1, 3)
    assert counts.decisions == {"spread": 3}
    assert (counts.gates["llm"].limit, counts.gates["llm"].held) == (3, 2)
    assert counts.jobs["rag/1"].num_running == 2
    assert sum(node.num_placed for node in counts.nodes.values()) == 3
    assert {node.idle_s for node in counts.nodes.values()} == {None, 3.0}


def test_a_dispatcher_tells_its_state():
    """Policy, tasks and nodes are in its repr."""
    core = dispatcher("spread", worker("a"))
    submit(core, task(1), task(2))

    assert repr(core) == "<Dispatcher 'spread' 1 running on 1 nodes, 1 waiting>"


def test_nothing_is_left_of_a_job_that_is_over():
    """A long life with many jobs does not grow."""
    core = dispatcher("spread", worker("a"), num_stories=4)

    for number in range(200):
        job = f"rag/{number}"
        core.job_arrived(job, weight=2.0, quota={"threads": 1})
        submit(core, task((number, 0), job), task((number, 1), job), now=float(number))
        core.task_withdrawn((number, 1), float(number))
        core.task_ended((number, 0), float(number), seconds=0.1)
        core.job_left(job)
        core.tick(float(number))

    assert list(core.jobs) == []
    assert len(core.queue.lines) <= 33
    assert all(not line.by_job for line in core.queue.lines.values())
    assert core.why((0, 0), 200.0) == []
