"""The machines as the dispatcher counts them."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from sage_dask.scheduling.durations import Durations
from sage_dask.scheduling.nodes import STALE_AFTER_S, Nodes
from sage_dask.scheduling.view import Fit, demand
from tests.scheduling.building import task, worker


def rank_by_load(node):
    """Rank as a load-aware policy does."""
    return node.in_flight


def some(*workers, saturation=1.0):
    """Return nodes with these workers."""
    nodes = Nodes(Durations(), saturation)
    for info in workers:
        nodes.join(info, 0.0)
    return nodes


def refreshed(nodes, fit, now_s=0.0):
    """Return the nodes that can take a task now, in order."""
    pool = nodes.pool(fit)
    nodes.refresh(rank_by_load, now_s)
    return list(pool.ranked)


def place(nodes, name, each, decision=1):
    """Place a task on a node, and return the address of the worker."""
    chosen = nodes[name].worker_for(each.demand.fit)
    nodes.take(chosen, each, decision, 0.0)
    return chosen.address


def test_workers_of_one_machine_are_one_node():
    """Threads add up, and the node is there until the last of its workers leaves."""
    nodes = some(worker("w1", "m1", threads=2), worker("w2", "m1", threads=3), worker("w3", "m2"))
    assert {node.name: node.threads for node in nodes} == {"m1": 5.0, "m2": 1.0}

    nodes.leave("w1")
    assert nodes["m1"].threads == 3.0
    nodes.leave("w2")

    assert [node.name for node in nodes] == ["m2"]


def test_needs_must_fit_into_one_worker():
    """Two threads on each of two workers do not make room for a task of three."""
    nodes = some(worker("w1", "m1", threads=2), worker("w2", "m1", threads=2))

    assert refreshed(nodes, demand(threads=2).fit) == ["m1"]
    assert refreshed(nodes, demand(threads=3).fit) == []
    assert nodes.pool(demand(threads=3).fit).suppliers == set()


def test_the_worker_with_most_idle_threads_takes_the_task():
    """Equal ones go by address."""
    nodes = some(worker("w2", "m", threads=2), worker("w1", "m", threads=2))

    assert [place(nodes, "m", task(i)) for i in range(4)] == ["w1", "w2", "w1", "w2"]


def test_a_resource_is_hard_capacity():
    """A node that has given away its one GPU is not offered for another such task."""
    nodes = some(worker("w1", "m1", threads=8, GPU=1), worker("w2", "m2", threads=8))
    fit = demand({"GPU": 1}).fit
    assert refreshed(nodes, fit) == ["m1"]

    place(nodes, "m1", task(1, resources={"GPU": 1}))

    assert refreshed(nodes, fit) == []
    assert nodes.pool(fit).suppliers == {"m1"}
    assert refreshed(nodes, Fit()) == ["m2", "m1"]


def test_a_task_that_may_run_on_some_workers_is_offered_no_others():
    """Restrictions name processes, and the node is offered if one of its workers is among them."""
    nodes = some(worker("w1", "m1"), worker("w2", "m1"), worker("w3", "m2"))
    fit = demand(workers=frozenset({"w2"})).fit

    assert refreshed(nodes, fit) == ["m1"]
    assert place(nodes, "m1", task(1, workers=frozenset({"w2"}))) == "w2"
    assert refreshed(nodes, fit) == []


def test_a_paused_worker_takes_nothing_and_is_still_a_supplier():
    """It is expected to come back."""
    nodes = some(worker("w1"))
    nodes.set_running("w1", False)
    assert refreshed(nodes, Fit()) == []
    assert nodes.pool(Fit()).suppliers == {"w1"}

    nodes.set_running("w1", True)

    assert refreshed(nodes, Fit()) == ["w1"]


def test_resources_kept_for_one_task_are_offered_to_no_other():
    """Tasks that do not ask for them are."""
    nodes = some(worker("w1", threads=4, GPU=2))
    refreshed(nodes, demand({"GPU": 1}).fit)

    nodes.withhold("w1", frozenset({"GPU"}))

    assert refreshed(nodes, demand({"GPU": 1}).fit) == []
    assert refreshed(nodes, Fit()) == ["w1"]
    nodes.withhold("w1", frozenset())
    assert refreshed(nodes, demand({"GPU": 1}).fit) == ["w1"]


def test_saturation_gives_each_worker_more_tasks_than_threads():
    """At 1.5 a worker of three threads is given five; resources stay what they are."""
    nodes = some(worker("w1", threads=3, GPU=1), saturation=1.5)

    for number in range(5):
        assert refreshed(nodes, Fit()) == ["w1"]
        place(nodes, "w1", task(number))

    assert refreshed(nodes, Fit()) == []
    assert nodes.workers["w1"].capacity["GPU"] == 1


def test_a_view_shows_work_under_way_in_measured_time():
    """Two tasks of two seconds are four outstanding; all that was ever placed stays counted."""
    durations = Durations()
    durations.observe("embed", 2.0)
    nodes = Nodes(durations, 1.0)
    nodes.join(worker("w1", threads=4), 0.0)
    where = [place(nodes, "w1", task(i), decision=i + 1) for i in range(3)]
    nodes.give_back(where[0], task(0), 5.0)
    refreshed(nodes, Fit(), 5.0)

    shown = nodes.view("w1")

    assert (shown.in_flight, shown.outstanding_s, shown.recent_s) == (2, 4.0, 6.0)
    assert (shown.last_placed, shown.typical_s, shown.load) == (3, 2.0, 0.5)


def test_a_view_shows_since_when_a_node_is_idle_and_its_longest_idle_thread():
    """Idle from the end of the last task; a thread that never had one is idle since it joined."""
    nodes = some(worker("w1", threads=2))
    address = place(nodes, "w1", task(1))
    refreshed(nodes, Fit())
    assert (nodes.view("w1").idle_since_s, nodes.view("w1").free_since_s) == (None, 0.0)

    nodes.give_back(address, task(1), 7.0)
    refreshed(nodes, Fit())

    assert (nodes.view("w1").idle_since_s, nodes.view("w1").free_since_s) == (7.0, 0.0)


def test_metrics_are_unknown_once_they_are_stale():
    """What a node said more than five seconds ago is not shown."""
    nodes = some(worker("w1"))
    nodes.measure("w1", 0.5, 0.25, 1.0)
    refreshed(nodes, Fit(), 1.0 + STALE_AFTER_S)
    assert (nodes.view("w1").memory, nodes.view("w1").cpu) == (0.5, 0.25)

    nodes.change_all()
    refreshed(nodes, Fit(), 1.1 + STALE_AFTER_S)

    assert (nodes.view("w1").memory, nodes.view("w1").cpu) == (None, None)


def test_tasks_that_share_a_thread_leave_no_idle_threads_behind():
    """A worker of one thread has one idle thread, whatever fractions it served."""
    nodes = some(worker("w1"))
    half = task(1, threads=0.5)

    for _ in range(9):
        for _ in range(2):
            place(nodes, "w1", half)
        for _ in range(2):
            nodes.give_back("w1", half, 1.0)

    assert len(nodes.workers["w1"].idle_threads) == 1
    assert nodes.workers["w1"].free == {"threads": 1.0}


def test_busy_threads_are_of_nodes_that_could_serve_such_tasks():
    """A busy node without GPUs does not count for tasks that need one."""
    nodes = some(worker("w1", threads=2, GPU=1), worker("w2", threads=4))
    fit = demand({"GPU": 1}).fit
    refreshed(nodes, fit)
    place(nodes, "w2", task(1))
    refreshed(nodes, fit)
    assert nodes.pool(fit).busy_threads == 0.0

    place(nodes, "w1", task(2))
    refreshed(nodes, fit)

    assert nodes.pool(fit).busy_threads == 2.0


@pytest.mark.parametrize("name", ["w1", "gone"])
def test_pools_that_nobody_asks_any_more_are_forgotten(name):
    """What is asked for again is looked at anew."""
    nodes = some(worker("w1"))
    fit = demand(workers=frozenset({name})).fit
    before = refreshed(nodes, fit)

    nodes.keep_pools({Fit()})

    assert refreshed(nodes, fit) == before


FITS = [
    Fit(),
    demand(threads=2).fit,
    demand({"GPU": 1}).fit,
    demand({"GPU": 2}).fit,
    demand(workers=frozenset({"w0", "w3"})).fit,
]


class NodesMachine(RuleBasedStateMachine):
    """Nodes beside plain lists of workers and of what each holds."""

    def __init__(self):
        super().__init__()
        self.nodes = Nodes(Durations(), 1.0)
        self.workers = {}
        self.paused = set()
        self.held = []

    @rule(
        number=st.integers(0, 4),
        node=st.integers(0, 2),
        threads=st.integers(1, 3),
        gpus=st.integers(0, 2),
    )
    def join(self, number, node, threads, gpus):
        """Add a worker where there is none of that address."""
        address = f"w{number}"
        if address not in self.workers:
            self.workers[address] = worker(address, f"m{node}", threads, GPU=gpus)
            self.nodes.join(self.workers[address], 0.0)

    @precondition(lambda self: self.workers)
    @rule(data=st.data())
    def leave(self, data):
        """Remove a worker, after its tasks."""
        address = data.draw(st.sampled_from(sorted(self.workers)))
        for at, each in self.held:
            if at == address:
                self.nodes.give_back(at, each, 1.0)
        self.held = [(at, each) for at, each in self.held if at != address]
        self.nodes.leave(address)
        del self.workers[address]
        self.paused.discard(address)

    @precondition(lambda self: self.workers)
    @rule(data=st.data(), is_running=st.booleans())
    def pause(self, data, is_running):
        """Pause a worker or let it go on."""
        address = data.draw(st.sampled_from(sorted(self.workers)))
        self.nodes.set_running(address, is_running)
        (self.paused.discard if is_running else self.paused.add)(address)

    @rule(fit=st.sampled_from(FITS), data=st.data())
    def take(self, fit, data):
        """Place a task on any node that is offered."""
        offered = refreshed(self.nodes, fit)
        if offered:
            name = data.draw(st.sampled_from(offered))
            each = task(len(self.held), resources=dict(fit.amounts), threads=0, workers=fit.workers)
            assert each.demand.fit == fit
            address = place(self.nodes, name, each)
            assert self.workers[address].node == name
            self.held.append((address, each))

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def give_back(self, data):
        """End a task."""
        index = data.draw(st.integers(0, len(self.held) - 1))
        self.nodes.give_back(*self.held.pop(index), 1.0)

    @rule(fits=st.sets(st.sampled_from(FITS)))
    def keep_pools(self, fits):
        """Forget some pools."""
        self.nodes.keep_pools(fits)

    def free(self, address, name):
        """Return what is free of a resource, from the lists."""
        info = self.workers[address]
        has = {"threads": info.threads, **info.resources}.get(name, 0)
        return has - sum(
            dict(each.demand.fit.amounts).get(name, 0) for at, each in self.held if at == address
        )

    @invariant()
    def the_right_nodes_are_offered(self):
        """A node is offered exactly if one of its workers has room, least loaded first."""
        in_flight = {
            info.node: sum(self.workers[at].node == info.node for at, _ in self.held)
            for info in self.workers.values()
        }
        for fit in FITS:
            able = {
                info.node
                for address, info in self.workers.items()
                if address not in self.paused
                and (fit.workers is None or address in fit.workers)
                and all(self.free(address, name) >= amount for name, amount in fit.amounts)
            }
            assert refreshed(self.nodes, fit) == sorted(able, key=lambda n: (in_flight[n], n))

    @invariant()
    def nothing_is_overbooked(self):
        """No worker has given away more than it has, and counts are those of the lists."""
        for address in self.workers:
            counted = self.nodes.workers[address].free
            assert all(counted[name] == self.free(address, name) >= 0 for name in counted)
        assert {node.name for node in self.nodes} == {i.node for i in self.workers.values()}


TestNodesAgreeWithLists = NodesMachine.TestCase
TestNodesAgreeWithLists.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
