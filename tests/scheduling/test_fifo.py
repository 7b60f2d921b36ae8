"""The baseline: first come, first served, by whoever has been idle for longest."""

from __future__ import annotations

from sage_dask.scheduling.fifo import Fifo
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


def test_the_longest_idle_node_is_next_whatever_it_is_called():
    """Of three idle nodes the one whose task ended first is chosen, though its name is last."""
    core = dispatcher("fifo", worker("a"), worker("b"), worker("c"))
    placed = submit(core, task(1), task(2), task(3))
    by_node = {node: key for key, node in placed}

    for now, node in enumerate("cab", start=1):
        core.task_ended(by_node[node], float(now))

    assert [node for _, node in submit(core, task(4), task(5), task(6), now=9.0)] == list("cab")


def test_a_node_that_is_partly_busy_counts_by_its_longest_idle_thread():
    """One thread idle since the start beats a node that has just become idle as a whole."""
    core = dispatcher("fifo", worker("a", threads=2), worker("b"))
    submit(core, task(1), task(2))
    core.task_ended(2, 5.0)

    assert submit(core, task(3), now=6.0) == [(3, "a")]


def test_equally_idle_nodes_take_turns():
    """Nodes that joined at once get a task each before one gets a second."""
    core = dispatcher("fifo", *(worker(name, threads=3) for name in "abc"))

    placed = submit(core, *map(task, range(9)))

    assert [node for _, node in placed] == list("abcabcabc")


def test_tasks_go_in_the_order_in_which_jobs_handed_them_over():
    """The time of arrival counts, not the order in which inputs became ready, nor the job."""
    core = dispatcher("fifo", worker("a"))
    placed = submit(
        core, task("late", "x/1", now=3.0), task("early", "y/1", now=1.0), task("mid", now=2.0)
    )

    for now in (4.0, 5.0):
        core.task_ended(placed[-1][0], now)
        placed += dispatch(core, now)

    assert keys(placed) == ["early", "mid", "late"]


def test_the_reason_tells_for_how_long_a_thread_was_idle():
    """It is a sentence with the number that decided."""
    policy = Fifo()
    cluster = offered(policy, [view("a", free_since_s=1.0), view("b", free_since_s=0.5)], now_s=2.0)

    placement = policy.place(task(1), cluster)

    assert placement.node == "b"
    assert placement.reason == "longest idle: a thread was free for 1.500 s"
