"""Fair shares between jobs, by stride scheduling over measured cost."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sage_dask.errors import PlanError
from sage_dask.scheduling.jobs import MOST_CREDIT_S, Jobs, pipeline_of
from sage_dask.scheduling.view import demand
from tests.scheduling.building import dispatch, dispatcher, keys, submit, task, worker

NAMES = ["a/1", "a/2", "b/1"]


def serve(core, jobs, seconds, until_s, each=None):
    """Keep five tasks of each job waiting; return the seconds that each was served."""
    served: Counter[str] = Counter()
    ends: dict[tuple[str, int], float] = {}
    now, number = 0.0, 0
    while now < until_s:
        for job in jobs:
            counts = core.jobs.get(job)
            for _ in range(5 - (counts.num_queued if counts is not None else 0)):
                number += 1
                core.task_ready(task((job, number), job, stage=job, now=now), now)
        ends.update({key: now + seconds[key[0]] for key in keys(dispatch(core, now))})
        key = min(ends, key=lambda key: (ends[key], key))
        now = ends.pop(key)
        core.task_ended(key, now, seconds=seconds[key[0]])
        served[key[0]] += seconds[key[0]]
        if each is not None:
            each(now)
    return served


def test_shares_are_two_to_one():
    """A job of weight 2 gets twice the seconds of one of weight 1, within five per cent."""
    core = dispatcher("spread", worker("n", threads=3))
    core.job_arrived("a/1", weight=2.0)
    core.job_arrived("b/1", weight=1.0)

    served = serve(core, ["a/1", "b/1"], {"a/1": 1.0, "b/1": 1.0}, until_s=100.0)

    assert served["a/1"] / served["b/1"] == pytest.approx(2.0, rel=0.05)


def test_shares_are_of_time_and_not_of_tasks():
    """Jobs of equal weight get equal seconds, though one has tasks ten times as long."""
    core = dispatcher("spread", worker("n", threads=2))

    served = serve(core, ["a/1", "b/1"], {"a/1": 0.1, "b/1": 1.0}, until_s=200.0)

    assert served["a/1"] / served["b/1"] == pytest.approx(1.0, rel=0.05)


def test_weights_change_while_jobs_run():
    """From the change on the new weights hold."""
    core = dispatcher("spread", worker("n", threads=1))
    seconds = {"a/1": 1.0, "b/1": 1.0}

    def change(now):
        if now == 100.0:
            core.set_weight("a", 3.0)

    equal = serve(core, ["a/1", "b/1"], seconds, until_s=100.0, each=change)
    for key in list(core.ledger.running):
        core.task_ended(key, 0.0)
    for entry in list(core.queue.entries()):
        core.task_withdrawn(entry.task.key, 0.0)
    weighted = serve(core, ["a/1", "b/1"], seconds, until_s=100.0)

    assert equal["a/1"] / equal["b/1"] == pytest.approx(1.0, rel=0.05)
    assert weighted["a/1"] / weighted["b/1"] == pytest.approx(3.0, rel=0.05)


def test_a_returning_job_gets_no_credit():
    """A job that was away while another ran for a hundred seconds does not shut it out."""
    core = dispatcher("spread", worker("n"))
    seconds = {"a/1": 1.0, "b/1": 1.0}
    serve(core, ["a/1", "b/1"], seconds, until_s=10.0)
    for key in [e.task.key for e in core.queue.entries() if e.task.job == "b/1"]:
        core.task_withdrawn(key, 10.0)
    serve(core, ["a/1"], seconds, until_s=100.0)

    served = serve(core, ["a/1", "b/1"], seconds, until_s=20.0)

    assert abs(served["a/1"] - served["b/1"]) <= 3.0


def test_a_job_that_could_not_be_served_catches_up_on_little():
    """A job whose gate was closed for a hundred seconds gets back ten, and then its share."""
    core = dispatcher("spread", worker("n"))
    core.set_gate("llm", 0)
    for i in range(60):
        core.task_ready(task(("b/1", -i), "b/1", stage="b/1", gates={"llm": 1}), 0.0)
    serve(core, ["a/1"], {"a/1": 1.0}, until_s=100.0)

    core.set_gate("llm", None)
    served = serve(core, ["a/1"], {"a/1": 1.0, "b/1": 1.0}, until_s=40.0)

    assert served["b/1"] - served["a/1"] == pytest.approx(MOST_CREDIT_S, abs=3.0)


def test_a_job_that_asks_for_one_task_at_a_time_gets_no_more_than_its_share():
    """Ten seconds for a task of ten seconds, then ten for ten tasks of one, and so on."""
    core = dispatcher("spread", worker("n"))
    served, now = Counter(), 0.0
    for number in range(200):
        if core.jobs.get("long/1") is None:
            core.task_ready(task(("long/1", number), "long/1", stage="long", now=now), now)
        core.task_ready(task(("short/1", number), "short/1", stage="short", now=now), now)
        ((key, _),) = dispatch(core, now)
        seconds = 10.0 if key[0] == "long/1" else 1.0
        now += seconds
        core.task_ended(key, now, seconds=seconds)
        served[key[0]] += seconds

    assert served["long/1"] / served["short/1"] == pytest.approx(1.0, rel=0.1)


def test_work_that_was_estimated_is_charged_as_measured():
    """A task expected to take half a second that took three costs its job three."""
    core = dispatcher("spread", worker("n"))
    submit(core, task(1, "a/1"), task(2, "a/1"))

    core.task_ended(1, 3.0, seconds=3.0)

    assert core.jobs["a/1"].served_s == 3.0


@pytest.mark.parametrize("what", ["threads", "llm", "GPU"])
def test_a_quota_bounds_what_a_job_holds(what):
    """Threads, gate slots and resources alike; the rest waits and another job is served."""
    core = dispatcher("spread", worker("n", threads=9, GPU=9))
    core.job_arrived("a/1", quota={what: 2})
    needs = {"gates": {"llm": 1}, "resources": {"GPU": 1}}

    placed = submit(
        core, *(task(i, "a/1", **needs) for i in range(5)), task("other", "b/1", **needs)
    )

    assert sorted(map(str, keys(placed))) == ["0", "1", "other"]
    core.task_ended(0, 1.0)
    assert keys(dispatch(core, 1.0)) == [2]


def test_a_quota_of_zero_holds_a_job_back_until_it_is_raised():
    """Raising it is followed at once, by the name of the pipeline."""
    core = dispatcher("spread", worker("n", threads=9))
    core.set_quota("a", {"threads": 0})
    assert submit(core, *(task(i, "a/1") for i in range(3))) == []

    core.set_quota("a", {"threads": 2})

    assert keys(dispatch(core)) == [0, 1]


def test_a_quota_lowered_below_what_is_held_takes_nothing_away():
    """Nothing starts until enough has come back."""
    core = dispatcher("spread", worker("n", threads=3))
    submit(core, *(task(i) for i in range(6)))

    core.set_quota("rag/1", {"threads": 1})
    core.task_ended(0, 1.0)
    core.task_ended(1, 1.0)
    assert dispatch(core, 1.0) == []
    core.task_ended(2, 2.0)

    assert keys(dispatch(core, 2.0)) == [3]


def test_a_quota_that_a_job_declares_after_its_tasks_came_holds_at_once():
    """Tasks and declaration may arrive in either order."""
    core = dispatcher("spread", worker("n", threads=3))
    core.task_ready(task(1), 0.0)

    core.job_arrived("rag/1", quota={"threads": 0})

    assert dispatch(core) == []


def test_what_an_operator_sets_counts_before_what_a_job_declared():
    """The job's own setting first, then its pipeline's, then what it declared, then 1."""
    jobs = Jobs()
    for name in NAMES:
        jobs.obtain(name)
    jobs.declare("a/1", 5.0, {"llm": 5})
    jobs.declare("a/2", 5.0, {"llm": 5})
    jobs.set_weight("a", 3.0)
    jobs.set_quota("a", {"llm": 3})
    jobs.set_weight("a/2", 2.0)

    assert [jobs[name].weight for name in NAMES] == [3.0, 2.0, 1.0]
    assert [dict(jobs[name].quota) for name in NAMES] == [{"llm": 3}, {"llm": 3}, {}]


def test_what_was_declared_ends_with_the_job():
    """A later job of the same name starts anew; what an operator set stays."""
    jobs = Jobs()
    jobs.declare("a/1", 5.0, {"llm": 5})
    jobs.set_weight("b/1", 2.0)

    jobs.withdraw("a/1")
    jobs.withdraw("b/1")

    assert (jobs.obtain("a/1").weight, jobs.obtain("b/1").weight) == (1.0, 2.0)


@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan")])
def test_a_weight_must_be_positive(weight):
    """The message names the job and the weight."""
    with pytest.raises(PlanError, match="job 'a/1': weight"):
        Jobs().set_weight("a/1", weight)


def test_a_quota_must_not_be_negative():
    """The message names what, and says what zero means."""
    with pytest.raises(PlanError, match=r"job 'a/1': quota llm=-1 must not be negative; 0 holds"):
        Jobs().declare("a/1", 1.0, {"llm": -1})


@given(st.lists(st.tuples(st.sampled_from(NAMES), st.integers(1, 3)), max_size=40))
def test_holdings_agree_with_sums(steps):
    """Whatever starts and ends, a job holds the sum of what its tasks hold."""
    jobs, out = Jobs(), {name: [] for name in NAMES}
    for name in NAMES:
        jobs.obtain(name)

    for name, amount in steps:
        if out[name] and amount == 3:
            jobs[name].give_back(out[name].pop())
        else:
            out[name].append(demand({"GPU": amount}, {"llm": 2 * amount}))
            jobs[name].take(out[name][-1])

        for job in jobs:
            held = Counter()
            for each in out[job.name]:
                held.update(dict(each.amounts))
            assert job.num_running == len(out[job.name])
            assert {k: v for k, v in job.held.items() if v} == dict(held)


@given(st.lists(st.tuples(st.sampled_from(NAMES), st.floats(0.01, 5.0)), max_size=60))
def test_no_backlogged_job_falls_behind_by_more_than_one_task_and_its_credit(costs):
    """When the smallest pass is always served, passes stay within the longest task."""
    jobs = Jobs()
    for name in NAMES:
        jobs.obtain(name)

    for _, seconds in costs:
        job = min(jobs, key=lambda job: (job.pass_s, job.name))
        jobs.charge(job, seconds)

        passes = [job.pass_s for job in jobs]
        assert max(passes) - min(passes) <= 5.0


def test_statistics_tell_weight_counts_and_holdings():
    """They are a copy of the moment."""
    core = dispatcher("spread", worker("n"))
    core.job_arrived("rag/1", weight=2.0)
    submit(core, task(1, gates={"llm": 2}), task(2, gates={"llm": 2}))

    counts = core.jobs.statistics()["rag/1"]

    assert (counts.weight, counts.num_queued, counts.num_running) == (2.0, 1, 1)
    assert counts.held == {"threads": 1.0, "llm": 2.0}
    assert counts.served_s == 0.5


def test_the_pipeline_is_what_stands_before_the_slash():
    """A name without one is its own pipeline."""
    assert [pipeline_of(name) for name in ("rag/1/2", "rag")] == ["rag", "rag"]
