"""Dividing the request slots of one server among jobs and the workers they run on."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sage_dask.errors import PlanError
from sage_dask.scheduling.allotment import Share, Want, allot

WORKERS, JOBS = "uvwxyz", "abcd"

demands = st.dictionaries(
    st.tuples(st.sampled_from(WORKERS), st.sampled_from(JOBS)),
    st.integers(0, 60),
    min_size=1,
)
limits = st.integers(0, 100)
weights = st.fixed_dictionaries({job: st.sampled_from([0.5, 1.0, 2.0, 3.0]) for job in JOBS})


def wants(demand):
    """Return demands as wants of one server."""
    return [Want(worker, job, ("s",), n) for (worker, job), n in demand.items()]


def by_job(slots):
    """Return slots added up over workers."""
    totals = Counter()
    for (_, job), number in slots.items():
        totals[job] += number
    return totals


def weighted(weights):
    """Return shares with these weights."""
    return {job: Share(weight) for job, weight in weights.items()}


def test_jobs_share_by_weight_and_workers_evenly():
    """Weight two has twice the slots, on each worker the same."""
    demand = {(worker, job): 100 for worker in "xy" for job in "ab"}

    slots = allot(60, wants(demand), {"a": Share(2.0)})

    assert slots == {("x", "a"): 20, ("y", "a"): 20, ("x", "b"): 10, ("y", "b"): 10}


def test_what_one_does_not_want_goes_to_those_who_do():
    """A job with three requests leaves its share to the other."""
    slots = allot(64, wants({("x", "a"): 3, ("x", "b"): 100}), {})

    assert slots == {("x", "a"): 3, ("x", "b"): 61}


def test_what_nobody_wants_is_lent_evenly():
    """A worker that has nothing to do yet can start without a message."""
    slots = allot(16, wants({("x", "a"): 4, ("y", "a"): 0, ("z", "a"): 0}), {})

    assert slots == {("x", "a"): 8, ("y", "a"): 4, ("z", "a"): 4}


def test_a_quota_holds_even_where_slots_are_free():
    """The quota of this endpoint counts, others' do not."""
    shares = {"a": Share(quota={"s": 5.0, "other": 1.0}), "b": Share(quota={"other": 1.0})}
    demand = {("x", "a"): 50, ("x", "b"): 2}

    slots = allot(64, wants(demand), shares, endpoint="s")

    assert slots == {("x", "a"): 5, ("x", "b"): 59}


def test_two_stages_of_a_job_on_one_worker_add_up():
    """They have one allotment."""
    both = [Want("x", "a", ("s",), 3), Want("x", "a", ("s",), 4), Want("y", "a", ("s",), 9)]

    assert allot(14, both, {}) == {("x", "a"): 7, ("y", "a"): 7}


def test_a_remainder_stays_where_it_was():
    """The odd slot is the one that was held, whatever the name."""
    demand = {("x", "a"): 9, ("y", "a"): 9}

    assert allot(5, wants(demand), {}) == {("x", "a"): 3, ("y", "a"): 2}
    assert allot(5, wants(demand), {}, before={("y", "a"): 3, ("x", "a"): 2}) == {
        ("x", "a"): 2,
        ("y", "a"): 3,
    }


def test_lent_slots_do_not_follow_every_request():
    """One request more or less on a worker is served from what it was lent."""
    demand = {(worker, "a"): 4 for worker in WORKERS}
    before = allot(48, wants(demand), {})

    after = allot(48, wants(demand | {("x", "a"): 5, ("u", "a"): 3}), {}, before=before)

    assert after == before


def test_a_weight_is_positive():
    """A share without weight would never have a slot."""
    with pytest.raises(PlanError, match="weight of 0"):
        Share(0)


@given(limits, demands, weights, st.dictionaries(st.sampled_from(JOBS), limits))
def test_all_slots_are_given_out_and_no_more(limit, demand, weights, quotas):
    """Nobody lacks a slot that another has no use for, but for quotas."""
    shares = {
        job: Share(weight, {"s": quotas[job]} if job in quotas else {})
        for job, weight in weights.items()
    }

    slots = allot(limit, wants(demand), shares, endpoint="s")

    totals = by_job(slots)
    assert slots.keys() == demand.keys()
    assert all(number >= 0 for number in slots.values())
    assert all(totals[job] <= quota for job, quota in quotas.items())
    room = [quotas.get(job, limit) for job in {job for _, job in demand}]
    assert sum(slots.values()) == min(limit, sum(room))
    short = {pair for pair in slots if slots[pair] < demand[pair]}
    for _, job in short:
        is_capped = job in quotas and totals[job] == quotas[job]
        rich = {pair for pair in slots if slots[pair] > demand[pair]}
        assert not any(other == job or not is_capped for _, other in rich)


@given(limits, demands, weights)
def test_weights_are_respected_to_a_slot(limit, demand, weights):
    """Whoever lacks a slot would have had its next one after anybody's last one."""
    slots = allot(limit, wants(demand), weighted(weights))

    totals, wanted = by_job(slots), by_job(demand)
    for poor in wanted:
        if totals[poor] < wanted[poor]:
            next_turn = (totals[poor] + 1) / weights[poor]
            assert all(totals[rich] / weights[rich] <= next_turn for rich in wanted)


@given(limits, demands)
def test_workers_of_a_job_are_even_to_a_slot(limit, demand):
    """Max-min: who lacks slots has at most one fewer than any other of its job."""
    slots = allot(limit, wants(demand), {})

    for poor, number in slots.items():
        if number < demand[poor]:
            assert all(slots[rich] <= number + 1 for rich in slots if rich[1] == poor[1])


@given(limits, demands, weights)
def test_a_slot_more_takes_none_from_anyone(limit, demand, weights):
    """Each job has as many at a higher limit, if not more."""
    fewer = by_job(allot(limit, wants(demand), weighted(weights)))
    more = by_job(allot(limit + 1, wants(demand), weighted(weights)))

    wanted = by_job(demand)
    assert all(more[job] >= min(fewer[job], wanted[job]) for job in wanted)


@given(limits, demands, demands)
def test_what_was_held_changes_nothing_but_who_has_the_last_slot(limit, demand, held):
    """Sums of jobs and fairness are those of a first allotment, within one slot."""
    fresh = allot(limit, wants(demand), {})
    kept = allot(limit, wants(demand), {}, before=held)

    assert sum(kept.values()) == sum(fresh.values())
    for pair, number in kept.items():
        assert min(number, demand[pair]) >= min(fresh[pair], demand[pair]) - 1
        assert abs(number - fresh[pair]) <= 3


@given(limits, demands)
def test_an_allotment_is_its_own_successor(limit, demand):
    """While demand stays, nothing moves."""
    slots = allot(limit, wants(demand), {})

    assert allot(limit, wants(demand), {}, before=slots) == slots
