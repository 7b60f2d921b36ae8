"""What our scheduler plugin relies on in Dask, one fact per test.

A test that fails here says which of Dask's habits changed, before a run hangs
for it.  Most facts need no cluster and are shown on ``DaskState``; those about
workers and clients use a cluster within this process.
"""

from __future__ import annotations

import asyncio
import pickle
import threading
import time
from collections import Counter

import pytest
from dask import annotate
from distributed import LocalCluster, get_worker
from distributed.core import Status
from distributed.diagnostics.plugin import SchedulerPlugin, WorkerPlugin
from distributed.protocol import deserialize
from distributed.protocol.pickle import dumps
from distributed.scheduler import KilledWorker, NoValidWorkerError
from distributed.worker_state_machine import SecedeEvent

from tests.scheduling.on_dask.dask_state import DaskState

# An address that no worker has.
HELD = "sage://held"

# Those annotations from which Dask derives where a task may run.
PLACING = ("workers", "restrictions", "allow_other_workers", "loose_restrictions", "resources")

# A cluster that answers at all does so in milliseconds; this only ends a test that would hang.
PATIENCE_S = 30


class Recorder(SchedulerPlugin):
    """Notes every hook, with what was true at that moment."""

    name = "recorder"

    def __init__(self):
        self.scheduler = None
        self.hooks = []

    async def start(self, scheduler):
        self.scheduler = scheduler
        self.hooks.append(("start", self.name in scheduler.plugins))

    def update_graph(self, scheduler, *, tasks, annotations, priority, **others):
        states = {key: scheduler.tasks[key].state for key in tasks}
        self.hooks.append(("update_graph", states, dict(annotations), dict(priority)))

    def transition(self, key, start, finish, *args, **others):
        self.hooks.append(("transition", key, start, finish))

    def add_worker(self, scheduler, worker):
        self.hooks.append(("add_worker", worker, worker in scheduler.workers))

    def remove_worker(self, scheduler, worker, **others):
        self.hooks.append(("remove_worker", worker, worker in scheduler.workers))

    def remove_client(self, scheduler, client):
        self.hooks.append(("remove_client", client, len(scheduler.tasks)))

    def restart(self, scheduler):
        self.hooks.append(("restart", len(scheduler.tasks), len(scheduler.workers)))

    async def before_close(self):
        self.hooks.append(("before_close",))

    async def close(self):
        self.hooks.append(("close",))

    def transitions_of(self, key):
        """Return (start, finish) of each transition of a task."""
        return [hook[2:] for hook in self.hooks if hook[:2] == ("transition", key)]


class Holder(Recorder):
    """Holds every task until the test places it, and again once it has left its worker."""

    def update_graph(self, scheduler, *, tasks, **others):
        super().update_graph(scheduler, tasks=tasks, **others)
        for key in tasks:
            hold(scheduler.tasks[key])

    def transition(self, key, start, finish, *args, **others):
        super().transition(key, start, finish, *args, **others)
        if start == "processing":
            hold(self.scheduler.tasks[key])


def hold(task):
    """Set a restriction that nothing satisfies."""
    task.worker_restrictions = {HELD}
    task.loose_restrictions = False


def place(dask, **workers):
    """Start held tasks on the workers given, in one call."""
    for key, name in workers.items():
        dask.task(key).worker_restrictions = {dask.address(name)}
    dask.recommend(dict.fromkeys(workers, "processing"))


def independent(number):
    """Return a graph of tasks without inputs."""
    return {f"t-{index}": [] for index in range(number)}


@pytest.fixture
def dask():
    """Lend a scheduler without workers; Dask checks itself when the test is over."""
    with DaskState() as dask:
        yield dask


@pytest.fixture
def recorder(dask):
    """Lend a plugin that only notes what happens."""
    recorder = Recorder()
    dask.register(recorder)
    recorder.hooks.clear()
    return recorder


@pytest.fixture
def holder(dask):
    """Lend a plugin that holds every task."""
    holder = Holder()
    dask.register(holder)
    holder.hooks.clear()
    return holder


# --- holding tasks back, and starting them


def test_a_restriction_that_nothing_satisfies_holds_tasks(dask, holder):
    """Set in update_graph, it leads ready tasks to no-worker, whatever is free."""
    dask.add_worker("a", threads=8)

    dask.submit(independent(3))

    assert dask.states() == dict.fromkeys(["t-0", "t-1", "t-2"], "no-worker")
    assert dask.sent("a", "compute-task") == []


def test_a_dependent_is_held_when_its_last_input_is_ready(dask, holder):
    """Until then it waits for its inputs as ever."""
    dask.add_worker("a", threads=2)
    dask.submit({"x": [], "y": [], "z": ["x", "y"]})
    place(dask, x="a", y="a")

    dask.finish("x")
    between = dask.task("z").state
    dask.finish("y")

    assert between == "waiting"
    assert dask.task("z").state == "no-worker"


def test_held_tasks_start_exactly_where_they_are_placed(dask, holder):
    """One call of transitions starts several, each on the address it was given."""
    dask.add_worker("a")
    dask.add_worker("b")
    dask.submit({"x": [], "y": [], "z": []})

    place(dask, x="b", y="a")

    assert (dask.running_on("a"), dask.running_on("b")) == ({"y"}, {"x"})
    assert [message["key"] for message in dask.sent("b", "compute-task")] == ["x"]
    assert dask.task("z").state == "no-worker"


def test_the_last_recommendation_is_carried_out_first(dask, holder):
    """Whoever starts several tasks on one worker gives them in reverse."""
    dask.add_worker("a")
    dask.submit({"x": [], "y": [], "z": []})

    place(dask, x="a", y="a", z="a")

    assert [message["key"] for message in dask.sent("a", "compute-task")] == ["z", "y", "x"]


def test_a_worker_may_be_given_more_than_it_has_threads(dask, holder):
    """Dask does not count for us: a placement is obeyed even if the worker is full."""
    dask.add_worker("a", threads=1)
    dask.submit(independent(5))

    place(dask, **dict.fromkeys(independent(5), "a"))

    assert len(dask.running_on("a")) == 5


def test_held_tasks_are_never_queued(dask, holder):
    """Dask queues many equal roots by itself, but none that carries a restriction."""
    dask.add_worker("a", threads=1)

    dask.submit(independent(50))

    assert not any(dask.scheduler.is_rootish(task) for task in dask.scheduler.tasks.values())
    assert Counter(dask.states().values()) == {"no-worker": 50}


def test_without_us_many_equal_roots_are_queued(dask):
    """This is what restrictions switch off: two on one thread, the others in the queue."""
    dask.add_worker("a", threads=1)

    dask.submit(independent(50))

    assert Counter(dask.states().values()) == {"processing": 2, "queued": 48}


def test_loose_restrictions_do_not_hold(dask, holder):
    """With loose_restrictions a task goes to any worker once its own is not there."""
    dask.add_worker("a")
    dask.submit({"x": []})

    dask.task("x").loose_restrictions = True
    dask.recommend({"x": "processing"})

    assert dask.running_on("a") == {"x"}


def test_host_restrictions_widen_worker_restrictions(dask):
    """Dask takes either, not both: a hold must set the host restrictions of a task aside."""
    dask.add_worker("a", host="10.1.1.1")
    dask.register(Holder())

    dask.submit({"x": []}, {"workers": ["10.1.1.1"]})

    assert dask.task("x").host_restrictions == {"10.1.1.1"}
    assert dask.running_on("a") == {"x"}


def test_a_queued_task_ignores_a_restriction_set_later(dask):
    """Adopting a queued task therefore takes it through released, which ends in no-worker."""
    dask.add_worker("a", threads=1)
    dask.submit(independent(50))
    first, second = [task.key for task in dask.scheduler.queued.peekn(2)]
    for key in (first, second):
        hold(dask.task(key))

    dask.finish(next(iter(dask.running_on("a"))))
    dask.recommend({second: "released"})

    assert dask.task(first).state == "processing"
    assert dask.task(second).state == "no-worker"


def test_released_tasks_without_restrictions_go_back_to_the_queue(dask, holder):
    """Detaching recommends released: processing would assign every task at once."""
    dask.add_worker("a", threads=1)
    dask.submit(independent(50))
    for task in dask.scheduler.tasks.values():
        task.worker_restrictions = None
    dask.unregister("recorder")

    dask.recommend({f"t-{index}": "released" for index in range(40)})
    dask.recommend({f"t-{index}": "processing" for index in range(40, 50)})

    assert Counter(dask.states().values()) == {"processing": 12, "queued": 38}


def test_held_tasks_fail_after_the_no_workers_timeout(dask, holder):
    """That is why this setting of Dask stays null."""
    dask.add_worker("a")
    dask.submit({"x": []})
    assert dask.scheduler.no_workers_timeout is None

    dask.scheduler.no_workers_timeout = -1.0  # Long ago, without waiting.
    dask.do(dask.scheduler._check_no_workers)

    assert dask.task("x").state == "erred"
    assert isinstance(pickle.loads(dask.task("x").exception), NoValidWorkerError)


def test_held_tasks_count_as_work_for_adaptive_scaling(dask, holder):
    """A cluster that scales with its work grows for tasks that we hold."""
    dask.add_worker("a")
    dask.submit(independent(100))

    assert not dask.scheduler.is_idle
    assert dask.scheduler.adaptive_target(target_duration=1.0) > 1


# --- hooks, and when they run


def test_update_graph_runs_before_any_transition(dask, recorder):
    """It sees new tasks as released, with their priorities and annotations."""
    dask.add_worker("a")
    recorder.hooks.clear()

    dask.submit({"x": [], "y": ["x"]}, {"sage": {"job": "j"}}, priority=3)

    hook, states, annotations, priorities = recorder.hooks[0]
    assert hook == "update_graph"
    assert states == {"x": "released", "y": "released"}
    assert annotations == {"sage": {"x": {"job": "j"}, "y": {"job": "j"}}}
    assert {priority[0] for priority in priorities.values()} == {-3}
    assert all(hook[0] == "transition" for hook in recorder.hooks[1:])
    assert len(recorder.hooks) > 1


def test_update_graph_names_tasks_that_were_there_before(dask, recorder):
    """A second graph lists them again, in any state, and their annotations stay the first ones."""
    dask.add_worker("a")
    dask.submit({"x": []}, {"sage": {"job": "first"}})
    dask.connect("other")
    recorder.hooks.clear()

    dask.submit({"x": [], "y": ["x"]}, {"sage": {"job": "second"}}, client="other")

    _, states, annotations, _ = recorder.hooks[0]
    assert states == {"x": "processing", "y": "released"}
    assert annotations == {"sage": {"y": {"job": "second"}}}
    assert dask.task("x").annotations["sage"] == {"job": "first"}


def test_the_transition_hook_runs_before_what_follows(dask):
    """When a result arrives, its dependents are still waiting while the hook runs."""
    seen = []

    class Watcher(Recorder):
        def transition(self, key, start, finish, *args, **others):
            if (key, finish) == ("x", "memory"):
                seen.append(self.scheduler.tasks["y"].state)

    dask.register(Watcher())
    dask.add_worker("a")
    dask.submit({"x": [], "y": ["x"]})

    dask.finish("x")

    assert seen == ["waiting"]
    assert dask.task("y").state == "processing"


@pytest.mark.parametrize(
    ("end", "finish"),
    [
        pytest.param(lambda dask: dask.finish("x"), "memory", id="done"),
        pytest.param(lambda dask: dask.fail("x"), "erred", id="failed"),
        pytest.param(lambda dask: dask.cancel("x"), "released", id="cancelled"),
        pytest.param(lambda dask: dask.release("x"), "released", id="no longer wanted"),
        pytest.param(lambda dask: dask.disconnect(), "released", id="client gone"),
        pytest.param(lambda dask: dask.reschedule("x"), "released", id="rescheduled"),
        pytest.param(lambda dask: dask.lose_worker("a"), "released", id="worker lost"),
        pytest.param(lambda dask: dask.restart(), "released", id="restart"),
    ],
)
def test_every_end_of_a_run_is_one_transition_from_processing(dask, recorder, end, finish):
    """Whatever a task holds can be given back there, and is given back once."""
    dask.add_worker("a")
    dask.submit({"x": []})

    end(dask)

    ends = [step for step in recorder.transitions_of("x") if step[0] == "processing"]
    assert ends == [("processing", finish)]


def test_a_retry_passes_through_released(dask, recorder):
    """A failure with tries left is told as released, then from released to waiting."""
    dask.add_worker("a")
    dask.submit({"x": []}, {"retries": 1})
    recorder.hooks.clear()

    dask.fail("x")

    assert recorder.transitions_of("x") == [
        ("processing", "released"),
        ("released", "waiting"),
        ("waiting", "processing"),
    ]


def test_a_cancelled_task_is_forgotten_after_it_was_released(dask, recorder):
    """The hook still finds it in scheduler.tasks while it is being forgotten."""
    found = []

    class Finder(Recorder):
        name = "finder"

        def transition(self, key, start, finish, *args, **others):
            found.append((start, finish, self.scheduler.tasks[key].annotations))

    dask.register(Finder())
    dask.add_worker("a")
    dask.submit({"x": []}, {"sage": {"job": "j"}})

    dask.cancel("x")

    annotations = {"sage": {"job": "j"}}
    assert found[-2:] == [
        ("processing", "released", annotations),
        ("released", "forgotten", annotations),
    ]
    assert dask.states() == {}


def test_a_cancelled_task_takes_its_dependents_along(dask, recorder):
    """A held dependent of a cancelled task is forgotten from no-worker or waiting."""
    dask.add_worker("a")
    dask.submit({"x": [], "y": ["x"]})

    dask.cancel("x")

    assert recorder.transitions_of("y")[-1] == ("released", "forgotten")
    assert dask.states() == {}
    assert [message["keys"] for message in dask.sent("a", "free-keys")] == [["x"]]


def test_every_client_is_told_of_cancelled_keys(dask):
    """Clients match them by key, so a key that is submitted again too soon is cancelled too."""
    dask.connect("other")
    dask.add_worker("a")
    dask.submit({"x": []})

    dask.cancel("x")

    assert [message["keys"] for message in dask.told("cancelled-keys", client="other")] == [["x"]]


def test_the_hook_of_a_finished_task_names_worker_and_times(dask):
    """The time a task took is in startstops, in seconds by the worker's clock."""
    told = {}

    class Listener(Recorder):
        def transition(self, key, start, finish, *args, **others):
            if finish == "memory":
                told.update(others)

    dask.register(Listener())
    dask.add_worker("a")
    dask.submit({"x": []})

    dask.finish("x", duration_s=2.5)

    assert told["worker"] == dask.address("a")
    (compute,) = told["startstops"]
    assert compute["action"] == "compute"
    assert compute["stop"] - compute["start"] == pytest.approx(2.5)


def test_a_hold_set_while_leaving_a_worker_survives(dask, holder):
    """A result that is lost with its worker is computed again only when we place it."""
    dask.add_worker("a")
    dask.add_worker("b")
    dask.submit({"x": [], "y": ["x"]})
    place(dask, x="a")
    dask.finish("x")

    dask.lose_worker("a")

    assert dask.task("x").state == "no-worker"
    assert dask.task("y").state == "waiting"
    assert dask.running_on("b") == set()


def test_a_worker_is_gone_before_its_tasks_are_released(dask):
    """The transition hook finds no such address; remove_worker is called after all of them."""
    seen = []

    class Watcher(Recorder):
        def transition(self, key, start, finish, *args, **others):
            if start == "processing":
                seen.append(("transition", dask.address("a") in self.scheduler.workers))

        def remove_worker(self, scheduler, worker, **others):
            seen.append(("remove_worker", worker in scheduler.workers))

    dask.register(Watcher())
    dask.add_worker("a", threads=2)
    dask.submit({"x": [], "y": []})

    dask.lose_worker("a")

    assert seen == [("transition", False), ("transition", False), ("remove_worker", False)]


def test_a_killed_worker_fails_every_task_it_was_given():
    """With allowed-failures 0 all of them err, begun or not, and retries do not help."""
    with DaskState(allowed_failures=0) as dask:
        recorder = Recorder()
        dask.register(recorder)
        dask.add_worker("a", threads=1)
        dask.submit({"x": [], "y": []}, {"retries": 5})

        dask.lose_worker("a")

        assert recorder.transitions_of("x")[-1] == ("processing", "erred")
        assert recorder.transitions_of("y")[-1] == ("processing", "erred")
        assert isinstance(pickle.loads(dask.task("x").exception), KilledWorker)


def test_a_retired_worker_is_not_blamed():
    """Its tasks are released and may run elsewhere."""
    with DaskState(allowed_failures=0) as dask:
        dask.add_worker("a")
        dask.submit({"x": []})
        dask.add_worker("b")

        dask.lose_worker("a", expected=True)

        assert dask.running_on("b") == {"x"}
        assert dask.task("x").suspicious == 0


def test_a_task_refused_for_its_inputs_errs_within_its_own_start(dask):
    """Inputs above the memory limit: the end is told before the start, which ends in erred too."""
    holder = Holder()
    dask.register(holder)
    dask.add_worker("a")
    dask.add_worker("small", memory_limit=10)
    dask.submit({"x": [], "y": ["x"]})
    place(dask, x="a")
    dask.finish("x", nbytes=1000)
    holder.hooks.clear()

    place(dask, y="small")

    assert holder.transitions_of("y") == [("processing", "erred"), ("no-worker", "erred")]


def test_a_client_is_gone_after_its_tasks(dask, recorder):
    """remove_client is called when the tasks that only it wanted are forgotten."""
    dask.add_worker("a")
    dask.submit({"x": []})

    dask.disconnect()

    assert recorder.hooks[-1] == ("remove_client", "client", 0)


def test_a_restart_forgets_tasks_before_it_tells(dask, recorder):
    """The restart hook finds no task, and the workers still there; they leave afterwards."""
    dask.add_worker("a")
    dask.submit({"x": []})
    recorder.hooks.clear()

    dask.restart()

    assert [hook for hook in recorder.hooks if hook[0] != "transition"] == [
        ("restart", 0, 1),
        ("remove_worker", dask.address("a"), False),
    ]
    assert recorder.hooks[0] == ("transition", "x", "processing", "released")


# --- workers that join, pause and resume


def test_a_worker_that_joins_does_not_pull_held_tasks(dask, holder):
    """Dask offers it everything in no-worker that it may run, and ours it may not."""
    dask.submit({"x": []})

    dask.add_worker("a")

    assert dask.task("x").state == "no-worker"
    assert ("add_worker", dask.address("a"), True) in holder.hooks


def test_a_worker_that_joins_pulls_tasks_without_restrictions(dask):
    """This is what holding prevents."""
    dask.submit({"x": []})

    dask.add_worker("a")

    assert dask.running_on("a") == {"x"}


def test_the_add_worker_hook_may_place_tasks_at_once(dask):
    """By then the worker is running, supplies its resources and can be sent to."""

    class Eager(Holder):
        def add_worker(self, scheduler, worker):
            scheduler.tasks["x"].worker_restrictions = {worker}
            scheduler.transitions({"x": "processing"}, "eager")

    dask.register(Eager())
    dask.submit({"x": []}, {"resources": {"LLM": 1}})

    dask.add_worker("a", resources={"LLM": 1})

    assert dask.running_on("a") == {"x"}
    assert len(dask.sent("a", "compute-task")) == 1


def test_a_paused_worker_is_not_running_and_keeps_its_tasks(dask, holder):
    """It leaves scheduler.running, without any hook; what it was given stays with it."""
    dask.add_worker("a")
    dask.submit({"x": []})
    place(dask, x="a")
    holder.hooks.clear()

    dask.pause("a")

    assert dask.worker("a") not in dask.scheduler.running
    assert dask.worker("a").status is Status.paused
    assert dask.running_on("a") == {"x"}
    assert holder.hooks == []


def test_a_task_placed_on_a_paused_worker_stays_held(dask, holder):
    """The hook is told of a transition from no-worker to no-worker, and nothing was sent."""
    dask.add_worker("a")
    dask.add_worker("b")
    dask.submit({"x": []})
    dask.pause("a")
    holder.hooks.clear()

    place(dask, x="a")

    assert dask.task("x").state == "no-worker"
    assert holder.transitions_of("x") == [("no-worker", "no-worker")]
    assert dask.sent("a", "compute-task") == []


def test_a_worker_that_resumes_pulls_only_what_was_placed_on_it(dask, holder):
    """A placement left standing on a paused worker takes effect when it resumes."""
    dask.add_worker("a")
    dask.add_worker("b")
    dask.submit({"x": [], "y": []})
    dask.pause("a")
    place(dask, x="a")

    dask.resume("a")

    assert dask.running_on("a") == {"x"}
    assert dask.task("y").state == "no-worker"


# --- failing held tasks loudly


def fail_held(dask, key, error):
    """Fail a task in no-worker, as Dask does after its no-workers-timeout."""

    def fail():
        follow = dask.scheduler.transition(
            key, "erred", exception=dumps(error), cause=key, stimulus_id="fail"
        )
        dask.scheduler.transitions(follow, "fail")

    dask.do(fail)


def test_a_held_task_can_be_failed_with_an_exception(dask, holder):
    """Its dependents fail with it, and the client is told of both."""
    dask.add_worker("a")
    dask.submit({"x": [], "y": ["x"]})

    fail_held(dask, "x", ValueError("no node for x"))

    assert dask.states() == {"x": "erred", "y": "erred"}
    told = {message["key"]: message for message in dask.told("task-erred")}
    assert set(told) == {"x", "y"}
    assert str(pickle.loads(told["y"]["exception"])) == "no node for x"
    assert holder.transitions_of("x")[-1] == ("no-worker", "erred")


def test_a_failed_hold_can_be_retried(dask, holder):
    """Retrying by the client brings the task back to no-worker."""
    dask.submit({"x": []})
    fail_held(dask, "x", ValueError("planted"))

    dask.retry("x")

    assert dask.task("x").state == "no-worker"


def test_a_waiting_task_can_not_be_failed_so(dask, holder):
    """Only a task in no-worker, queued or processing takes an exception along."""
    dask.submit({"x": [], "y": ["x"]})

    with pytest.raises(AssertionError):
        fail_held(dask, "y", ValueError("planted"))


# --- restrictions of the user's own


def test_restrictions_can_be_derived_again_from_annotations(dask):
    """Annotations keep what the user asked for, names and all, after we changed the rest."""
    asked = {"workers": ["a", "10.7.7.7"], "allow_other_workers": True, "resources": {"LLM": 1}}
    dask.add_worker("a", resources={"LLM": 1})
    dask.submit({"x": []}, asked)
    task = dask.task("x")
    before = (
        task.worker_restrictions,
        task.host_restrictions,
        task.loose_restrictions,
        task.resource_restrictions,
    )

    hold(task)
    task.host_restrictions = task.resource_restrictions = None
    by_type = {name: {"x": task.annotations[name]} for name in PLACING if name in task.annotations}
    dask.scheduler._apply_annotations([task], by_type)

    assert before == ({dask.address("a")}, {"10.7.7.7"}, True, {"LLM": 1})
    assert before == (
        task.worker_restrictions,
        task.host_restrictions,
        task.loose_restrictions,
        task.resource_restrictions,
    )


def test_applying_annotations_again_forgets_those_left_out(dask):
    """It replaces task.annotations by what it was given: put the whole dict back afterwards."""
    dask.submit({"x": []}, {"workers": ["10.7.7.7"], "sage": {"job": "j"}})
    task = dask.task("x")

    dask.scheduler._apply_annotations([task], {"workers": {"x": ["10.7.7.7"]}})

    assert task.annotations == {"workers": ["10.7.7.7"]}


def test_applying_annotations_again_starts_retries_anew(dask):
    """Retries are spent in task.retries; leave that annotation out."""
    dask.add_worker("a")
    dask.submit({"x": []}, {"retries": 2})
    dask.fail("x")
    task = dask.task("x")
    spent = task.retries

    dask.scheduler._apply_annotations([task], {"retries": {"x": 2}})

    assert spent == 1
    assert task.retries == 2


def test_a_name_is_resolved_when_annotations_are_applied(dask):
    """A pin by name points to the old address after the worker came back under a new one."""
    dask.add_worker("a")
    dask.submit({"x": []}, {"workers": ["a"]})
    old = dask.address("a")

    dask.lose_worker("a")
    dask.add_worker("a")
    stuck = dask.task("x").state
    dask.scheduler._apply_annotations([dask.task("x")], {"workers": {"x": ["a"]}})
    dask.recommend({"x": "processing"})

    assert old != dask.address("a")
    assert stuck == "no-worker"
    assert dask.running_on("a") == {"x"}


# --- resources


def test_without_us_resource_tasks_are_all_assigned_at_once(dask):
    """One slot each, and five hundred tasks on each of two workers."""
    for name in ("a", "b"):
        dask.add_worker(name, threads=2, resources={"LLM": 1})

    dask.submit(independent(1000), {"resources": {"LLM": 1}})

    assert [len(dask.running_on(name)) for name in ("a", "b")] == [500, 500]
    assert dask.worker("a").used_resources == {"LLM": 500}


def test_a_need_above_every_supply_waits(dask):
    """Dask compares with what a worker supplies, and says nothing."""
    dask.add_worker("a", resources={"LLM": 1})

    dask.submit({"x": []}, {"resources": {"LLM": 2}})

    assert dask.task("x").state == "no-worker"


def test_a_placement_obeys_what_a_worker_supplies(dask, holder):
    """A task placed where its resource is not supplied stays held."""
    dask.add_worker("a")
    dask.add_worker("b", resources={"LLM": 1})
    dask.submit({"x": [], "y": []}, {"resources": {"LLM": 1}})

    place(dask, x="a", y="b")

    assert dask.task("x").state == "no-worker"
    assert dask.running_on("b") == {"y"}


@pytest.mark.parametrize("end", ["finish", "fail", "cancel", "reschedule"])
def test_used_resources_are_given_back_when_a_run_ends(dask, holder, end):
    """The worker's account is right before the hook runs, whoever placed the task."""
    seen = []

    class Watcher(Recorder):
        name = "watcher"

        def transition(self, key, start, finish, *args, **others):
            if start == "processing":
                seen.append(dict(dask.worker("a").used_resources))

    dask.register(Watcher())
    dask.add_worker("a", resources={"LLM": 4})
    dask.submit({"x": []}, {"resources": {"LLM": 3}})
    place(dask, x="a")
    during = dict(dask.worker("a").used_resources)

    getattr(dask, end)("x")

    assert during == {"LLM": 3}
    assert seen == [{"LLM": 0}]


def test_a_seceded_task_keeps_its_place_and_resources(dask, holder):
    """It stays in ws.processing and is in ws.long_running too; no transition tells of it."""
    dask.add_worker("a", resources={"LLM": 1})
    dask.submit({"x": []}, {"resources": {"LLM": 1}})
    place(dask, x="a")
    holder.hooks.clear()

    dask.secede("x")

    assert dask.running_on("a") == {"x"}
    assert {task.key for task in dask.worker("a").long_running} == {"x"}
    assert dask.worker("a").used_resources == {"LLM": 1}
    assert holder.hooks == []


def test_changing_what_a_worker_supplies_resets_what_is_used(dask, holder):
    """set_resources forgets running tasks, so that the account goes below zero: keep our own."""
    dask.add_worker("a", resources={"LLM": 4})
    dask.submit({"x": []}, {"resources": {"LLM": 3}})
    place(dask, x="a")

    dask.do(dask.scheduler.add_resources, dask.address("a"), {"LLM": 8})
    after = dict(dask.worker("a").used_resources)
    dask.finish("x")

    assert after == {"LLM": 0}
    assert dask.worker("a").used_resources == {"LLM": -3}


# --- the plugin's own life


def test_start_runs_before_registration(dask):
    """While start runs, hooks of the plugin are not called yet; nothing comes in between."""
    recorder = Recorder()

    dask.register(recorder)

    assert recorder.hooks == [("start", False)]
    assert dask.scheduler.plugins["recorder"] is recorder


def test_registering_a_name_again_does_not_close_the_old_plugin(dask, recorder):
    """The new one is started and takes the name; the old one hears nothing."""
    new = Recorder()

    with pytest.warns(UserWarning, match="overwriting"):
        dask.register(new)

    assert recorder.hooks == []
    assert new.hooks == [("start", True)]
    assert dask.scheduler.plugins["recorder"] is new


def test_an_idempotent_plugin_is_not_registered_again(dask):
    """The second is dropped without being started."""

    class Once(Recorder):
        idempotent = True

    first, second = Once(), Once()
    dask.register(first)

    dask.register(second)

    assert second.hooks == []
    assert dask.scheduler.plugins["recorder"] is first


def test_unregistering_calls_nothing(dask, recorder):
    """A plugin is not told that it is gone."""
    dask.unregister("recorder")

    assert recorder.hooks == []
    assert "recorder" not in dask.scheduler.plugins


def test_what_hooks_raise_is_swallowed(dask):
    """Dask logs it and goes on, and the task runs as if there were no plugin."""

    class Broken(SchedulerPlugin):
        name = "broken"

        def update_graph(self, scheduler, **others):
            raise ValueError("update_graph")

        def transition(self, key, start, finish, *args, **others):
            raise ValueError("transition")

        def add_worker(self, scheduler, worker):
            raise ValueError("add_worker")

    dask.register(Broken())
    dask.allow_hook_errors = True

    dask.add_worker("a")
    dask.submit({"x": []})

    assert dask.running_on("a") == {"x"}
    raised = Counter(str(error) for error in dask.hook_errors)
    assert raised == {"add_worker": 1, "update_graph": 1, "transition": 2}


def test_start_that_raises_is_not_swallowed(dask):
    """Registration fails where it was asked for, and the plugin is not registered."""

    class Broken(SchedulerPlugin):
        name = "broken"

        async def start(self, scheduler):
            raise ValueError("start")

    with pytest.raises(ValueError, match="start"):
        dask.register(Broken())

    assert "broken" not in dask.scheduler.plugins


# --- work stealing


@pytest.fixture
def stealing():
    """Lend a scheduler that steals, with one worker overloaded and one idle."""
    with DaskState({"distributed.scheduler.work-stealing": True}) as dask:
        dask.add_worker("busy")
        dask.submit(independent(20), {"workers": ["busy"]})
        dask.add_worker("idle")
        yield dask


def steal(dask):
    """Let Dask balance once; return how many tasks it asks the busy worker to hand over."""
    dask.do(dask.scheduler.extensions["stealing"].balance)
    return len(dask.sent("busy", "steal-request"))


def test_a_task_with_one_valid_worker_is_not_stolen(stealing):
    """A strict restriction to an address exempts it, for as long as it stands while it runs."""
    assert steal(stealing) == 0


def test_a_task_whose_restriction_is_taken_off_is_stolen(stealing):
    """What exempts is the restriction at the moment of stealing, not that of the placement."""
    for task in stealing.scheduler.tasks.values():
        task.worker_restrictions = None

    assert steal(stealing) > 0


def test_a_task_with_a_loose_restriction_is_stolen(stealing):
    """allow_other_workers does not protect a placement."""
    for task in stealing.scheduler.tasks.values():
        task.loose_restrictions = True

    assert steal(stealing) > 0


def test_a_running_task_with_the_hold_restriction_is_not_stolen(stealing):
    """Setting the hold already at the start of a run protects it just as well."""
    for task in stealing.scheduler.tasks.values():
        hold(task)

    assert steal(stealing) == 0


# --- what the scheduler knows of a worker


def test_a_worker_tells_its_node_and_host(dask):
    """Its extra holds what it registered with; the host is that of its address."""
    dask.add_worker("a", host="10.2.2.2", node="node-7")
    dask.add_worker("b", host="10.2.2.2")

    assert dask.worker("a").extra == {"node": "node-7"}
    assert dask.worker("b").extra == {}
    assert dask.worker("a").host == dask.worker("b").host == "10.2.2.2"


def test_metrics_are_those_of_the_last_heartbeat(dask):
    """Memory in bytes, CPU in percent of one core, and last_seen by the scheduler's clock."""
    dask.add_worker("a")
    before = dask.worker("a").last_seen

    dask.heartbeat("a", memory=123, cpu=45.0)

    assert (dask.worker("a").metrics["memory"], dask.worker("a").metrics["cpu"]) == (123, 45.0)
    assert dask.worker("a").last_seen >= before


def test_downscaling_asks_the_plugin(dask):
    """It is shown the workers without long-running tasks, and only what it returns is closed."""
    asked = []

    class Keeper(Recorder):
        def valid_workers_downscaling(self, scheduler, workers):
            asked.append({worker.name for worker in workers})
            return [worker for worker in workers if worker.name != "a"]

    dask.register(Keeper())
    for name in ("a", "b", "c"):
        dask.add_worker(name)
    dask.submit({"x": []}, {"workers": ["c"]})
    dask.secede("x")

    to_close = dask.scheduler.workers_to_close(n=3, attribute="name")

    assert asked == [{"a", "b"}]
    assert to_close == ["b"]


def test_adaptive_scaling_asks_the_plugin(dask):
    """A cluster without work shrinks by no more than the plugin lets go."""

    class KeepsAll(Recorder):
        def valid_workers_downscaling(self, scheduler, workers):
            return []

    for name in ("a", "b", "c"):
        dask.add_worker(name, memory_limit=100)
    alone = dask.scheduler.adaptive_target()
    dask.register(KeepsAll())

    assert alone < 3
    assert dask.scheduler.adaptive_target() == 3


def test_downscaling_does_not_ask_while_all_workers_are_busy(dask):
    """Without a number to close, a cluster at work closes nothing."""
    dask.add_worker("a")
    dask.submit({"x": []})

    assert dask.scheduler.workers_to_close() == []


# --- workers and clients, on a cluster within this process


class Switch:
    """Keeps tasks running until it is opened; tasks find it by name in this process."""

    def __init__(self):
        self.started = threading.Semaphore(0)
        self.opened = threading.Event()

    def wait_for_start(self):
        assert self.started.acquire(timeout=PATIENCE_S)


_switches: dict[str, Switch] = {}


def run_until_opened(name):
    """Work for a task: say that it began, then wait for its switch."""
    _switches[name].started.release()
    assert _switches[name].opened.wait(PATIENCE_S)
    return name


def running_keys(dask_worker):
    """Return the keys that execute on a worker, cancelled ones too."""
    return sorted(task.key for task in dask_worker.state.executing | dask_worker.state.long_running)


@pytest.fixture(scope="module")
def cluster():
    """Lend two workers in this process, which tell their node as ours do."""
    with LocalCluster(
        n_workers=2,
        threads_per_worker=2,
        processes=False,
        protocol="tcp",  # Messages are packed and unpacked as between machines.
        host="127.0.0.1",
        dashboard_address="127.0.0.1:0",
        scheduler_kwargs={"dashboard": False, "validate": True},
        startup_information={"node": lambda worker: "node-7"},
        memory_limit=0,
    ) as cluster:
        yield cluster


@pytest.fixture
def switch(request):
    """Lend a switch of the test's own, opened when the test is over."""
    switch = _switches[request.node.name] = Switch()
    yield switch
    switch.opened.set()
    del _switches[request.node.name]


def until(cluster, condition):
    """Wait for what happens soon on the cluster's event loop; fail if it does not."""
    give_up = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < give_up, "waited in vain"
        cluster.sync(asyncio.sleep, 0)  # One turn of that loop.


def ask_worker(cluster, address):
    """Return what executes on a worker, as a plugin can ask it from the scheduler's loop.

    The scheduler passes data on as it is, so whoever wants the answer there unpacks it.
    """

    async def ask():
        message = {"op": "run", "function": dumps(running_keys)}
        answers = await cluster.scheduler.broadcast(msg=message, workers=[address])
        return answers[address]

    answer = cluster.sync(ask)
    assert answer["status"] == "OK"
    return deserialize(answer["result"].header, answer["result"].frames)


def cancel(client, future):
    """Cancel a task, and wait until the client was told: the news would cancel a next future."""
    future.cancel()
    client.submit(abs, -1, pure=False).result()  # Messages to a client keep their order.


def worker_state(cluster, address, key):
    """Return the state of a task as its worker sees it."""
    (worker,) = [one for one in cluster.workers.values() if one.address == address]
    return worker.state.tasks[key].state


def test_startup_information_is_in_extra(cluster, client):
    """What a worker is configured to tell at its start is in ws.extra from the first moment."""
    assert {ws.extra.get("node") for ws in cluster.scheduler.workers.values()} == {"node-7"}


def test_workers_report_memory_and_cpu(cluster, client):
    """Both are of the worker's process; nothing tells of its whole machine by default."""
    for ws in cluster.scheduler.workers.values():
        assert ws.metrics["memory"] > 0
        assert ws.metrics["cpu"] >= 0
        assert "host_cpu" not in ws.metrics


def test_a_graph_of_a_client_reaches_the_hook_before_any_transition(cluster, client):
    """Layer annotations of a real graph arrive in update_graph, as on DaskState."""
    holder = Holder()
    cluster.sync(cluster.scheduler.register_scheduler_plugin, holder, idempotent=False)
    try:
        with annotate(sage={"job": "j"}):
            future = client.submit(abs, -1, key="held-x")
        until(cluster, lambda: "held-x" in cluster.scheduler.tasks)
        until(cluster, lambda: cluster.scheduler.tasks["held-x"].state == "no-worker")
        first = holder.hooks[1]
    finally:
        cluster.sync(cluster.scheduler.unregister_scheduler_plugin, "recorder")
        future.cancel()

    assert first[0] == "update_graph"
    assert first[2]["sage"] == {"held-x": {"job": "j"}}


def test_a_client_raises_the_exception_of_a_failed_hold(cluster, client):
    """What the plugin pickled is what result() raises."""
    future = client.submit(abs, -1, key="never", workers=["10.9.9.9"])
    until(cluster, lambda: "never" in cluster.scheduler.tasks)

    async def fail():
        scheduler = cluster.scheduler
        error = dumps(ValueError("no node for never"))
        follow = scheduler.transition(
            "never", "erred", exception=error, cause="never", stimulus_id="fail"
        )
        scheduler.transitions(follow, "fail")

    cluster.sync(fail)

    with pytest.raises(ValueError, match="no node for never"):
        future.result(timeout=PATIENCE_S)


def test_a_cancelled_task_runs_on_and_its_worker_knows(cluster, client, switch, request):
    """The scheduler has forgotten it; asked, the worker names it until it ends."""
    address = next(iter(cluster.scheduler.workers))
    future = client.submit(run_until_opened, request.node.name, key="going-on", workers=[address])
    switch.wait_for_start()
    future.cancel()
    until(cluster, lambda: "going-on" not in cluster.scheduler.tasks)

    while_running = ask_worker(cluster, address)
    switch.opened.set()
    until(cluster, lambda: ask_worker(cluster, address) == [])

    assert while_running == ["going-on"]
    assert cluster.scheduler.workers[address].processing == set()


def test_a_cancelled_task_given_again_to_its_worker_runs_again_later(
    cluster, client, switch, request
):
    """The worker lets the old run go on, its result is refused as stale, and then it runs anew."""
    recorder = Recorder()
    address = next(iter(cluster.scheduler.workers))
    task = (run_until_opened, request.node.name)
    future = client.submit(*task, key="again", workers=[address])
    switch.wait_for_start()
    cancel(client, future)
    until(cluster, lambda: worker_state(cluster, address, "again") == "cancelled")
    cluster.sync(cluster.scheduler.register_scheduler_plugin, recorder, idempotent=False)
    try:
        future = client.submit(*task, key="again", workers=[address])
        until(cluster, lambda: worker_state(cluster, address, "again") == "executing")
        beside_the_old_run = switch.started.acquire(blocking=False)
        switch.opened.set()
        result = future.result(timeout=PATIENCE_S)
    finally:
        cluster.sync(cluster.scheduler.unregister_scheduler_plugin, "recorder")

    assert result == request.node.name
    assert not beside_the_old_run
    assert switch.started.acquire(blocking=False)
    assert recorder.transitions_of("again") == [
        ("released", "waiting"),
        ("waiting", "processing"),
        ("processing", "released"),
        ("released", "waiting"),
        ("waiting", "processing"),
        ("processing", "memory"),
    ]


def test_a_cancelled_task_given_to_another_worker_runs_twice(cluster, client, switch, request):
    """So a slot it holds is per run and worker, not per key."""
    first, second = cluster.scheduler.workers
    task = (run_until_opened, request.node.name)
    future = client.submit(*task, key="twice", workers=[first])
    switch.wait_for_start()
    cancel(client, future)
    until(cluster, lambda: "twice" not in cluster.scheduler.tasks)

    future = client.submit(*task, key="twice", workers=[second])
    switch.wait_for_start()

    assert ask_worker(cluster, first) == ask_worker(cluster, second) == ["twice"]
    switch.opened.set()
    assert future.result(timeout=PATIENCE_S) == request.node.name
    until(cluster, lambda: ask_worker(cluster, first) == [])


class TellsEnds(WorkerPlugin):
    """Tells the scheduler when a cancelled run ends."""

    name = "tells-ends"

    def setup(self, worker):
        self.worker = worker

    def transition(self, key, start, finish, **others):
        if start == "cancelled" and finish in ("memory", "error", "rescheduled"):
            self.worker.log_event("test-ended", {"key": key, "worker": self.worker.address})


def test_a_worker_plugin_can_tell_that_a_cancelled_task_ended(cluster, client, switch, request):
    """Its hook sees cancelled -> memory or error, as if it counted; log_event passes it on."""
    heard = []

    class Hears(SchedulerPlugin):
        name = "hears"

        def log_event(self, topic, msg):
            if topic == "test-ended":
                heard.append(msg)

    address = next(iter(cluster.scheduler.workers))
    client.register_plugin(TellsEnds())
    cluster.sync(cluster.scheduler.register_scheduler_plugin, Hears(), idempotent=False)
    try:
        future = client.submit(run_until_opened, request.node.name, key="told", workers=[address])
        switch.wait_for_start()
        future.cancel()
        until(cluster, lambda: "told" not in cluster.scheduler.tasks)
        assert ask_worker(cluster, address) == ["told"]
        before = list(heard)
        switch.opened.set()
        until(cluster, lambda: heard)
    finally:
        cluster.sync(cluster.scheduler.unregister_scheduler_plugin, "hears")
        client.unregister_worker_plugin("tells-ends")

    assert before == []
    assert heard == [{"key": "told", "worker": address}]


def test_a_handler_added_in_start_is_called_by_clients(cluster, client):
    """scheduler.handlers is looked up at every call, so a plugin can add commands at any time."""

    class Answers(SchedulerPlugin):
        name = "answers"

        async def start(self, scheduler):
            scheduler.handlers["test_answer"] = self.answer

        def answer(self, question):
            return {"question": question, "answer": 42}

    cluster.sync(cluster.scheduler.register_scheduler_plugin, Answers(), idempotent=False)
    try:
        answer = client.sync(client.scheduler.test_answer, question="why")
    finally:
        cluster.sync(cluster.scheduler.unregister_scheduler_plugin, "answers")
        del cluster.scheduler.handlers["test_answer"]

    assert answer == {"question": "why", "answer": 42}


def test_events_reach_clients_that_subscribed(cluster, client):
    """A handler gets (time, message) for each event logged on its topic."""
    heard = []
    client.subscribe_topic("test-events", heard.append)
    topics = cluster.scheduler._broker._topics
    until(cluster, lambda: client.id in topics["test-events"].subscribers)

    async def log():
        cluster.scheduler.log_event("test-events", {"progress": 1})

    cluster.sync(log)
    until(cluster, lambda: heard)
    client.unsubscribe_topic("test-events")

    ((_, message),) = heard
    assert message == {"progress": 1}


def test_plugins_are_told_that_the_scheduler_closes():
    """before_close and close are called once each, in this order."""
    recorder = Recorder()
    with LocalCluster(
        n_workers=0,
        processes=False,
        dashboard_address="127.0.0.1:0",
        scheduler_kwargs={"dashboard": False, "plugins": [recorder]},
    ):
        started = list(recorder.hooks)

    assert started == [("start", True)]
    assert recorder.hooks[1:] == [("before_close",), ("close",)]


# --- tasks that only wait: what requests to model servers rely on


def test_a_coroutine_task_that_secedes_frees_its_slot_and_still_ends(cluster, client):
    """More of them run at once than there are threads, and their results are kept as ever."""
    met = Meeting(5)
    MEETINGS["secede"] = met

    futures = [client.submit(meet_seceded, "secede", n, key=f"meet-{n}") for n in range(5)]

    assert client.gather(futures) == list(range(5))
    assert met.most > 4, "the cluster has four threads"


def test_an_event_of_a_worker_reaches_plugins_and_an_unknown_one_hurts_nobody(cluster, client):
    """``Worker.log_event`` arrives at each plugin's ``log_event``, whatever its topic."""
    seen = []

    class Listener(SchedulerPlugin):
        name = "listener"

        def log_event(self, topic, msg):
            seen.append((topic, msg))

    cluster.sync(_add_plugin, cluster.scheduler, Listener())
    worker = next(iter(cluster.workers.values()))
    worker.log_event("nobody-knows-this", {"number": 7})

    until(
        cluster, lambda: ("nobody-knows-this", {"number": 7}) in [(t, dict_of(m)) for t, m in seen]
    )
    assert client.submit(int, "7").result() == 7
    cluster.scheduler.remove_plugin("listener")


def test_a_worker_hears_messages_for_which_it_has_a_handler(cluster, client):
    """``stream_handlers`` may grow while the worker runs; ``worker_send`` reaches it in order."""
    worker = next(iter(cluster.workers.values()))
    heard = []
    worker.stream_handlers["for-a-test"] = lambda number: heard.append(number)

    for number in range(3):
        message = {"op": "for-a-test", "number": number}
        cluster.sync(_call, cluster.scheduler.worker_send, worker.address, message)

    until(cluster, lambda: heard == [0, 1, 2])
    del worker.stream_handlers["for-a-test"]


class Meeting:
    """Keeps coroutines until so many are there."""

    def __init__(self, wanted):
        self.wanted = wanted
        self.most = 0
        self.is_full = asyncio.Event()


MEETINGS: dict[str, Meeting] = {}


async def meet_seceded(name, number):
    """Stand for a task that waits for a server: let go of its thread, and meet the others."""
    met, worker = MEETINGS[name], get_worker()
    worker.handle_stimulus(
        SecedeEvent(key=f"meet-{number}", compute_duration=0.0, stimulus_id=f"test-{number}")
    )
    met.most += 1
    if met.most == met.wanted:
        met.is_full.set()
    await asyncio.wait_for(met.is_full.wait(), PATIENCE_S)
    return number


def dict_of(message):
    """Return an event's message, to which Dask may have added when it came and from whom."""
    return {"number": message.get("number")} if isinstance(message, dict) else message


async def _add_plugin(scheduler, plugin):
    scheduler.add_plugin(plugin)


async def _call(function, *arguments):
    function(*arguments)
