"""What the plugin reads from a task, and how one is held, placed and set free."""

from __future__ import annotations

import pytest

from sage_dask.scheduling.on_dask.held import held, hold, is_ours, node_of, pin, set_free
from tests.scheduling.on_dask.dask_state import DaskState
from tests.scheduling.on_dask.plugged import ours


@pytest.fixture
def dask():
    """Lend a scheduler without a plugin, with a worker of two seats."""
    with DaskState() as dask:
        dask.add_worker("a", threads=2, resources={"LLM": 2}, node="rack-1")
        yield dask


def view(dask, key):
    """Return a task as the dispatcher sees it."""
    return held(dask.task(key), 1.0).view(dask.scheduler, 2.0)


def test_a_view_tells_all_that_the_annotation_says(dask):
    """Job and stage are named after their pipeline, so that two pipelines never share a name."""
    said = ours(job="7", stage="generate", gates={"llm": 2}, priority=3)
    dask.submit({"x": []}, {**said, "resources": {"LLM": 1}})

    seen = view(dask, "x")

    assert (seen.job, seen.stage, seen.priority) == ("rag/7", "rag/generate", 3.0)
    assert seen.demand.gates == (("llm", 2),)
    assert seen.demand.fit.amounts == (("LLM", 1), ("threads", 1.0))
    assert (seen.arrived_s, seen.ready_s) == (1.0, 2.0)
    assert seen.rank == dask.task("x").priority


def test_an_annotation_that_says_little_is_enough(dask):
    """Tasks that users annotate themselves have a job and a stage too."""
    dask.submit({"embed-1": []}, {"sage": {"pipeline": "mine"}})

    seen = view(dask, "embed-1")

    assert (seen.job, seen.stage) == ("mine/", "mine/embed")
    assert (seen.priority, seen.demand.gates) == (0.0, ())


def test_a_view_tells_where_inputs_lie(dask):
    """In bytes by node, and of all of them once, though a node has two copies."""
    dask.submit({"x": [], "y": [], "z": ["x", "y"]}, ours())
    dask.finish("x", nbytes=100)
    dask.finish("y", nbytes=20)

    seen = view(dask, "z")

    assert (dict(seen.inputs), seen.inputs_bytes) == ({"rack-1": 120}, 120)


@pytest.mark.parametrize(
    ("annotations", "expected"), [(ours(), True), ({"priority": 1}, False), ({}, False)]
)
def test_ours_are_the_tasks_with_our_annotation(dask, annotations, expected):
    """Nothing else is looked at."""
    dask.submit({"x": []}, annotations)

    assert is_ours(dask.task("x")) is expected


def test_an_actor_is_not_ours(dask):
    """It would hold what it holds until its owner goes."""
    dask.submit({"x": []}, ours())
    dask.task("x").actor = True

    is_mine = is_ours(dask.task("x"))
    dask.task("x").actor = False

    assert not is_mine


def test_a_held_task_may_run_nowhere_and_a_pinned_one_on_one_worker(dask):
    """Dask asks for the valid workers, and gets none, then that one."""
    dask.submit({"x": []}, {**ours(), "workers": ["10.0.0.1"], "allow_other_workers": True})
    task = dask.task("x")

    hold(task)
    while_held = dask.scheduler.valid_workers(task)
    pin(task, dask.address("a"))

    assert while_held == set()
    assert dask.scheduler.valid_workers(task) == {dask.worker("a")}


def test_a_task_that_is_set_free_keeps_annotations_and_retries(dask):
    """Dask replaces all annotations by those it is given, and would begin counting retries anew."""
    dask.submit({"x": []}, {**ours(), "workers": ["a"], "retries": 3})
    task = dask.task("x")
    before, task.retries = dict(task.annotations), 1
    hold(task)

    set_free(dask.scheduler, task)

    assert task.annotations == before
    assert task.retries == 1
    assert task.worker_restrictions == {dask.address("a")}


def test_a_node_is_the_declared_name_or_the_host(dask):
    """Several processes on one host are one machine."""
    dask.add_worker("b", host="10.4.4.4")

    assert node_of(dask.worker("a")) == "rack-1"
    assert node_of(dask.worker("b")) == "10.4.4.4"
