"""What holds of every placement policy, ours and one that a user wrote."""

from __future__ import annotations

import random
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sage_dask.scheduling import policies
from sage_dask.scheduling.dispatcher import Dispatcher
from sage_dask.scheduling.nodes import WorkerInfo
from sage_dask.scheduling.policies import make_policy
from sage_dask.scheduling.policy import Placement, Policy
from sage_dask.scheduling.view import TaskView, demand


@dataclass(frozen=True)
class Last(Policy):
    """The last node by name, long stages first, as a user might write it."""

    name: ClassVar[str] = "last"

    def precedence(self, task):
        """Put generation first."""
        return 0.0 if task.stage == "generate" else 1.0

    def place(self, task, cluster):
        """Choose it."""
        node = max(cluster.nodes, key=lambda node: node.name)
        return Placement(node.name, f"last of {len(list(cluster.nodes))} nodes by name")


CHOICES = {
    "fifo": lambda: "fifo",
    "round-robin": lambda: "round-robin",
    "spread": lambda: "spread",
    "pack": lambda: "pack",
    "priority": lambda: "priority",
    **{
        f"priority by {place}": lambda place=place: make_policy("priority", place=place)
        for place in ("fifo", "round-robin", "spread", "pack", Last())
    },
    "a user's instance": Last,
    "a user's entry point": lambda: "last",
}


@pytest.fixture(autouse=True)
def installed(monkeypatch):
    """Register the user's policy, as an installed package would."""
    point = EntryPoint("last", f"{__name__}:Last", policies.ENTRY_POINTS)

    def fake_entry_points(*, group, name=None):
        return [point] if group == policies.ENTRY_POINTS and name in (None, "last") else []

    monkeypatch.setattr(policies, "entry_points", fake_entry_points)


@pytest.fixture(params=CHOICES.values(), ids=CHOICES.keys())
def choice(request):
    """Lend each policy, by name or as an instance."""
    return request.param()


URL = "http://gpu-0:8000/v1"

NEEDS = [
    demand(),
    demand(threads=2),
    demand({"GPU": 1}),
    demand({"LLM": 2}, {"llm": 1}),
    demand(gates={"llm": 1, "db": 1}),
    demand(workers=frozenset({"w1", "w4"})),
    demand(threads=0),
    demand(threads=0, endpoints=(URL,)),
    demand({"GPU": 1}, {"db": 1}, threads=0, endpoints=(URL,)),
]
KINDS = [{}, {"GPU": 2}, {"LLM": 4}, {"GPU": 1, "LLM": 2}]


def everything():
    """Return a worker that can take any task, to see all out."""
    return WorkerInfo("w1", "big", 64, {"GPU": 64, "LLM": 64})


class Life:
    """Random events on a core, and what came of them."""

    def __init__(self, choice, seed):
        self.rng = random.Random(seed)
        self.core = Dispatcher(choice)
        self.now = 0.0
        self.waiting, self.running, self.done = {}, {}, set()
        self.starts = []
        self.num_tasks = 0
        self.core.set_gate("llm", 2)
        self.core.set_gate("db", 1)
        self.core.set_gate(URL, 4)

    def live(self, steps):
        """Let things happen, then see that they came to an end."""
        events = [self.submit, self.submit, self.end, self.end, self.join, self.leave, self.measure]
        for _ in range(steps):
            self.rng.choice(events)()
            self.dispatch()
        self.see_out()

    def submit(self):
        """Hand over a few tasks."""
        for _ in range(self.rng.randint(1, 4)):
            self.num_tasks += 1
            size = self.rng.choice([0, 0, 10**8])
            where = {f"m{self.rng.randint(0, 3)}": size} if size else {}
            task = TaskView(
                self.num_tasks,
                self.rng.choice(["a/1", "b/1"]),
                self.rng.choice(["embed", "generate"]),
                self.rng.choice(NEEDS),
                priority=self.rng.choice([0.0, 2.0]),
                arrived_s=self.now,
                ready_s=self.now,
                inputs=where,
                inputs_bytes=size,
                requests=3,
            )
            self.waiting[task.key] = task
            self.core.task_ready(task, self.now)

    def end(self):
        """End a task that runs."""
        if self.running:
            key = self.rng.choice(sorted(self.running))
            del self.running[key]
            self.done.add(key)
            self.core.task_ended(key, self.now, seconds=self.rng.uniform(0.01, 1.0))

    def join(self):
        """Add a worker, by itself or beside others on its node."""
        number = self.rng.randint(0, 7)
        info = WorkerInfo(
            f"w{number}", f"m{number % 4}", self.rng.randint(1, 4), self.rng.choice(KINDS)
        )
        if info.address not in self.core.nodes.workers:
            self.core.worker_joined(info, self.now)

    def leave(self):
        """Lose a worker; its tasks are ready again."""
        addresses = sorted(self.core.nodes.workers)
        if addresses:
            for key in self.core.worker_left(self.rng.choice(addresses), self.now):
                self.waiting[key] = self.running.pop(key)
                self.core.task_ready(self.waiting[key], self.now)

    def measure(self):
        """Tell what a node uses."""
        self.core.node_measured(
            f"m{self.rng.randint(0, 3)}", self.rng.random(), self.rng.random(), self.now
        )
        self.core.tick(self.now)

    def dispatch(self):
        """Start what can start, and check each start."""
        self.now += self.rng.uniform(0.0, 0.2)
        starts = self.core.dispatch(self.now)
        assert self.core.failure is None, self.core.failure
        self.core.validate()
        for start in starts:
            task = self.running[start.key] = self.waiting.pop(start.key)
            workers = self.core.nodes[start.node].workers
            assert start.worker in workers
            assert workers[start.worker].supplies(task.demand.fit)
            self.starts.append((start.key, start.worker, start.reason))

    def see_out(self):
        """Join a worker that can take anything, and wait: all tasks end, each once."""
        for address in list(self.core.nodes.workers):
            for key in self.core.worker_left(address, self.now):
                self.waiting[key] = self.running.pop(key)
                self.core.task_ready(self.waiting[key], self.now)
        self.core.worker_joined(everything(), self.now)
        for _ in range(3 * self.num_tasks + 3):
            self.end()
            self.now += 1.0
            self.dispatch()
        assert not self.waiting
        assert not self.running
        assert self.done == set(range(1, self.num_tasks + 1))


@pytest.mark.parametrize("seed", range(6))
def test_no_task_is_lost_and_none_runs_where_it_can_not(choice, seed):
    """Workers of all kinds join and leave, several per node: in the end everything has run."""
    life = Life(choice, seed)

    life.live(60)

    assert life.num_tasks > 20


def test_equal_events_lead_to_equal_decisions(choice):
    """Nothing depends on the order of sets, on addresses in memory or on chance."""
    one, other = Life(choice, 7), Life(choice, 7)

    one.live(80)
    other.live(80)

    assert one.starts == other.starts


def test_reasons_are_sentences(choice):
    """They say something, on one line, and end without a full stop as they follow a name."""
    life = Life(choice, 3)
    life.live(60)

    for _, _, reason in life.starts:
        assert len(reason.split()) >= 2
        assert reason == reason.strip()
        assert "\n" not in reason
        assert "None" not in reason
        assert not reason.endswith(".")


def test_without_nodes_everything_waits_until_one_joins(choice):
    """It is no error to have nowhere to go."""
    core = Dispatcher(choice)
    tasks = [TaskView(i, "a/1", "embed") for i in range(3)]
    for task in tasks:
        core.task_ready(task, 0.0)
    assert core.dispatch(0.0) == []
    core.tick(1.0)

    core.worker_joined(WorkerInfo("w1", "m1", 3), 1.0)

    assert [start.key for start in core.dispatch(1.0)] == [0, 1, 2]


def test_the_last_node_may_leave(choice):
    """Its tasks start on the next that joins."""
    core = Dispatcher(choice)
    core.worker_joined(WorkerInfo("w1", "m1", 3), 0.0)
    tasks = {i: TaskView(i, "a/1", "embed") for i in range(3)}
    for task in tasks.values():
        core.task_ready(task, 0.0)
    core.dispatch(0.0)

    for key in core.worker_left("w1", 1.0):
        core.task_ready(tasks[key], 1.0)
    assert core.dispatch(1.0) == []
    core.worker_joined(WorkerInfo("w2", "m2", 3), 2.0)

    assert sorted(start.key for start in core.dispatch(2.0)) == [0, 1, 2]


def test_only_nodes_that_have_room_are_chosen(choice):
    """A full cluster starts nothing, and a task goes where the one thread is free."""
    core = Dispatcher(choice)
    for name in "abc":
        core.worker_joined(WorkerInfo(name, name, 1), 0.0)
    for key in range(5):
        core.task_ready(TaskView(key, "a/1", "embed"), 0.0)
    where = {s.node: s.key for now in (0.0, 1.0, 2.0) for s in core.dispatch(now)}
    assert sorted(where) == ["a", "b", "c"]

    core.task_ended(where["b"], 3.0)

    assert [start.node for start in core.dispatch(3.0)] == ["b"]


@given(seed=st.integers(0, 10**6), first=st.sampled_from(sorted(CHOICES)), data=st.data())
def test_work_that_waits_follows_a_policy_switched_to_and_none_is_lost(seed, first, data):
    """From any policy to any other while tasks wait; the next decisions are the new one's."""
    names = sorted(CHOICES)
    life = Life(CHOICES[first](), seed)
    life.live(0)

    for second in data.draw(st.lists(st.sampled_from(names), min_size=1, max_size=3)):
        for _ in range(3):
            life.submit()
        policy = CHOICES[second]()
        life.core.set_policy(policy)
        before = dict(life.core.statistics(life.now).decisions)
        life.dispatch()
        after = life.core.statistics(life.now).decisions
        made_by = {name for name in after if after[name] != before.get(name, 0)}
        assert made_by <= {make_policy(policy).name}

    life.see_out()


def test_tasks_that_take_no_thread_start_where_all_threads_are_busy(choice):
    """However the policy sees a full node, what only waits for a server can go there."""
    core = Dispatcher(choice)
    core.worker_joined(WorkerInfo("w", "m", 1), 0.0)
    core.task_ready(TaskView("computes", "a/1", "embed"), 0.0)
    core.dispatch(0.0)
    for key in range(3):
        what = demand(threads=0, endpoints=(URL,))
        core.task_ready(TaskView(key, "a/1", "generate", what, requests=1), 1.0)

    assert [start.key for start in core.dispatch(1.0)] == [0, 1, 2]
    core.validate()


def test_overload_is_served_to_the_end(choice):
    """Four times as many tasks as the gate lets through, on two workers per node: all run."""
    core = Dispatcher(choice)
    core.set_gate("llm", 4)
    for number in range(4):
        core.worker_joined(WorkerInfo(f"w{number}", f"m{number // 2}", 2, {"LLM": 2}), 0.0)
    for key in range(16):
        core.task_ready(TaskView(key, "a/1", "generate", demand({"LLM": 1}, {"llm": 1})), 0.0)
    done, now = [], 0.0

    while len(done) < 16 and now < 100.0:
        now += 1.0
        core.dispatch(now)
        core.validate()
        assert len(core.ledger.running) <= 4
        for key in list(core.ledger.running):
            core.task_ended(key, now, seconds=1.0)
            done.append(key)

    assert sorted(done) == list(range(16))
