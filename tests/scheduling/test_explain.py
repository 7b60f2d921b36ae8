"""Why a task waits, in sentences for people."""

from __future__ import annotations

import pytest

from sage_dask.scheduling.load_aware import Pack
from tests.scheduling.building import dispatch, dispatcher, submit, task, worker


def why(core, key, now=0.0):
    """Return why a task waits now."""
    told = core.why(key, now)[-1].split(maxsplit=1)
    assert told[0] == "now"
    return told[1]


def test_waiting_for_resources():
    """What it needs, and of how many nodes none has enough free."""
    core = dispatcher("spread", worker("a", GPU=1), worker("b", GPU=1), worker("c"))
    submit(core, *(task(i, resources={"GPU": 1}) for i in range(4)))

    assert why(core, 3) == (
        "waits for GPU=1, threads=1: none of the 2 nodes that have it has enough free; "
        "1 of job 'rag/1' before it, 2 in all need the same"
    )


def test_waiting_for_a_gate():
    """Which, and how many of its slots are held."""
    core = dispatcher("spread", worker("a", threads=4))
    core.set_gate("llm", 2)
    submit(core, *(task(i, f"job/{i % 3}", gates={"llm": 1}) for i in range(5)))

    assert why(core, 4) == (
        "waits for gate 'llm': 2 of 2 slots held; "
        "0 of job 'job/1' before it, 3 in all need the same"
    )


def test_waiting_for_the_quota_of_its_job():
    """What the quota is."""
    core = dispatcher("spread", worker("a", threads=4))
    core.job_arrived("rag/1", quota={"threads": 1, "llm": 3})
    submit(core, task(1), task(2))

    assert why(core, 2) == (
        "waits for its own job, which is at its quota (threads=1, llm=3); "
        "0 of job 'rag/1' before it, 1 in all need the same"
    )


def test_waiting_by_policy():
    """What the policy said."""
    core = dispatcher(Pack(target_wait_s=9.0), worker("a"), worker("b"))
    submit(core, task(1), task(2))

    assert why(core, 2) == (
        "waits by policy: all open nodes are full, and the queue will take 0.500 s, less than 9 s; "
        "0 of job 'rag/1' before it, 1 in all need the same"
    )


def test_waiting_for_a_cluster():
    """Without workers nothing runs."""
    core = dispatcher("spread")
    submit(core, task(1))

    assert why(core, 1) == (
        "waits: each needs threads=1, and the cluster has no workers; start some"
    )


def test_about_to_be_placed():
    """Between its coming and the next dispatch there is room, and nothing else to say."""
    core = dispatcher("spread", worker("a"))
    core.task_ready(task(1), 0.0)
    core.nodes.refresh(lambda node: 0, 0.0)

    assert why(core, 1).startswith("is about to be placed")


def test_waiting_because_a_place_is_kept_for_another():
    """The sentence names the task for which slots are kept, and does not promise a start."""
    core = dispatcher("spread", worker("a", threads=9))
    core.set_gate("llm", 4)
    submit(core, task("holder", gates={"llm": 1}))
    submit(core, task("big", gates={"llm": 4}))
    dispatch(core, 5.0)

    submit(core, task("small", "b/1", now=6.0, gates={"llm": 1}), now=6.0)

    assert "big" in why(core, "small", 6.0)


@pytest.mark.parametrize(
    ("needs", "told"),
    [
        (
            {"resources": {"GPU": 4}},
            (
                "2 tasks of embed (job rag/1) can not run: each needs GPU=4, threads=1 on one "
                "worker, and of 2 the one that comes closest has GPU=1, threads=2; lower the "
                "stage's resources, or start workers that have them"
            ),
        ),
        (
            {"threads": 8},
            (
                "2 tasks of embed (job rag/1) can not run: each needs threads=8 on one worker, "
                "and of 2 the one that comes closest has threads=2; lower the stage's "
                "resources, or start workers that have them"
            ),
        ),
        (
            {"workers": frozenset({"c"})},
            (
                "2 tasks of embed (job rag/1) can not run: each needs threads=1, on c, and no such "
                "worker is there; start it, or allow others"
            ),
        ),
        (
            {"gates": {"llm": 5}},
            (
                "2 tasks of embed (job rag/1) can not run: each needs 5 slots of gate 'llm', whose "
                "limit is 4; raise it with set_gate('llm', ...)"
            ),
        ),
    ],
)
def test_what_nothing_can_serve_is_told_with_what_it_needs_and_what_there_is(needs, told):
    """The sentence says how to mend it."""
    core = dispatcher("spread", worker("a", threads=2, GPU=1), worker("b"))
    core.set_gate("llm", 4)
    submit(core, task(1, **needs), task(2, **needs))
    core.tick(0.0)

    (notice,) = core.tick(3.0)

    assert (notice.kind, notice.text) == ("unplaceable", told)


@pytest.mark.parametrize(
    "needs",
    [
        {"resources": {"GPU": 1, "LLM": 1}},
        {"resources": {"LLM": 1}, "workers": frozenset({"a"})},
        {"resources": {"GPU": 1}, "threads": 8},
    ],
    ids=["on two workers", "on another worker", "threads"],
)
def test_what_is_offered_is_less_than_what_is_needed(needs):
    """A need that no single worker meets is not answered with as much as was asked for."""
    core = dispatcher("spread", worker("a", threads=2, GPU=1), worker("b", LLM=1))
    submit(core, task(1, **needs))
    core.tick(0.0)

    (notice,) = core.tick(3.0)

    _, _, offered = notice.text.partition("offers is ")
    wanted = ", ".join(f"{name}={amount}" for name, amount in needs["resources"].items())
    assert offered.partition(";")[0] != wanted
