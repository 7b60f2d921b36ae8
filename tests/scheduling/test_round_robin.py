"""One task to each node in turn."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from sage_dask.metrics import balance
from sage_dask.scheduling.round_robin import RoundRobin
from tests.scheduling.building import dispatcher, offered, submit, task, view, worker


@given(nodes=st.integers(1, 9), threads=st.integers(1, 4), ends=st.randoms(use_true_random=False))
def test_counts_differ_by_one_at_most_while_nodes_have_room(nodes, threads, ends):
    """However tasks end, nodes that always have room when it is their turn get equally many."""
    core = dispatcher(RoundRobin(), *(worker(f"n{i}", threads=threads) for i in range(nodes)))
    counts: Counter[str] = Counter({f"n{i}": 0 for i in range(nodes)})
    running: dict[int, str] = {}

    for key in range(40):
        turn = min(counts, key=lambda name: (counts[name], name))
        while list(running.values()).count(turn) == threads:
            core.task_ended(done := ends.choice(sorted(running)), float(key))
            del running[done]
        ((_, node),) = submit(core, task(key), now=float(key))
        running[key] = node
        counts[node] += 1

        assert max(counts.values()) - min(counts.values()) <= 1


def test_full_nodes_at_once_are_filled_evenly():
    """A hundred and twenty-eight tasks on sixteen nodes of eight threads: balance of counts 1.0."""
    core = dispatcher("round-robin", *(worker(f"n{i:02}", threads=8) for i in range(16)))

    counts = Counter(node for _, node in submit(core, *map(task, range(128))))

    assert balance(list(counts.values())) == 1.0


def test_a_node_that_was_full_is_next_as_soon_as_it_has_room():
    """It does not wait for the whole cycle to come round again."""
    core = dispatcher("round-robin", worker("a"), worker("b", threads=9), worker("c", threads=9))
    submit(core, *map(task, range(6)))

    core.task_ended(0, 1.0)

    assert submit(core, task(6), now=1.0) == [(6, "a")]


def test_the_node_whose_turn_is_longest_ago_is_chosen():
    """Load does not matter, names only where turns are equal."""
    policy = RoundRobin()
    served = view("a", last_placed=2)
    views = [served, view("c", last_placed=1, in_flight=3), view("b", last_placed=1)]

    assert policy.place(task(1), offered(policy, views)).node == "b"
