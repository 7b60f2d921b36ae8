"""Whatever a policy does wrong becomes a PolicyError that names it."""

from __future__ import annotations

import itertools

import pytest

from sage_dask.errors import PolicyError
from sage_dask.scheduling.guard import SLOWEST_S, GuardedPolicy
from sage_dask.scheduling.policy import Placement, Policy, Wait
from tests.scheduling.building import FakeCluster, task, view


class Fake(Policy):
    """A policy that answers what it is told to, or raises it."""

    name = "mine"

    def __init__(self, place=None, rank=0, precedence=0.0):
        self._answers = {"place": place, "rank": rank, "precedence": precedence}

    def _answer(self, to):
        answer = self._answers[to]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def place(self, task, cluster):
        """Answer."""
        return self._answer("place")

    def rank(self, node):
        """Answer."""
        return self._answer("rank")

    def precedence(self, task):
        """Answer."""
        return self._answer("precedence")


CLUSTER = FakeCluster([view("n1")])


class FakeTimer:
    """A clock on which each question takes a given time."""

    def __init__(self, *seconds):
        moments = [moment for each in seconds for moment in (0.0, each)]
        self._moments = itertools.chain(moments, itertools.repeat(0.0))

    def __call__(self):
        """Tell the time."""
        return next(self._moments)


@pytest.mark.parametrize("answer", [Placement("n1", "it is there"), Wait("not yet", 3.0)])
def test_right_answers_pass(answer):
    """They are returned as they are."""
    assert GuardedPolicy(Fake(answer)).place(task(1), CLUSTER) is answer


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (ValueError("no idea"), "raised ValueError for task 'k': no idea"),
        (Placement("n9", "?"), "placed task 'k' on 'n9', which is not one of the nodes that can"),
        (Placement(None, "?"), "placed task 'k' on None, which is not"),
        (Placement(["n1"], "?"), r"placed task 'k' on \['n1'\], which is not"),
        (None, "answered None for task 'k'; return Placement or Wait"),
        ("n1", "answered 'n1' for task 'k'; return Placement or Wait"),
    ],
)
def test_wrong_placements_are_told_with_the_policy_and_the_task(answer, message):
    """What was wrong, for which task, and what would be right."""
    with pytest.raises(PolicyError, match=f"policy 'mine' {message}"):
        GuardedPolicy(Fake(answer)).place(task("k"), CLUSTER)


@pytest.mark.parametrize("answer", [ValueError("no idea"), "high", None, float("nan")])
def test_a_wrong_precedence_is_told(answer):
    """It must be a number that has an order."""
    with pytest.raises(PolicyError, match=r"policy 'mine' .* task 'k'"):
        GuardedPolicy(Fake(precedence=answer)).precedence(task("k"))


def test_a_rank_that_raises_is_told_with_the_node():
    """The node is named."""
    with pytest.raises(PolicyError, match="policy 'mine' raised ValueError for node 'n1': no"):
        GuardedPolicy(Fake(rank=ValueError("no"))).rank(view("n1"))


def test_the_traceback_travels_as_text_and_as_cause():
    """Whoever reads the error finds the line of the policy that raised."""
    with pytest.raises(PolicyError) as caught:
        GuardedPolicy(Fake(ValueError("no idea"))).place(task("k"), CLUSTER)

    assert isinstance(caught.value.__cause__, ValueError)
    assert "test_guard.py" in str(caught.value)
    assert "raise answer" in str(caught.value)


def test_one_very_slow_decision_is_too_slow():
    """The message tells how long it took and what is allowed."""
    right = Placement("n1", "it is there")
    slow = GuardedPolicy(Fake(right), FakeTimer(0.9, SLOWEST_S + 0.001))
    slow.place(task(1), CLUSTER)

    with pytest.raises(PolicyError, match=r"took 1001 ms \(limit 1000 ms, 20 ms on average\)"):
        slow.place(task(1), CLUSTER)


def test_many_rather_slow_decisions_are_too_slow():
    """Thirty milliseconds each are noticed within a few dozen tasks."""
    guarded = GuardedPolicy(Fake(Placement("n1", "there")), FakeTimer(*[0.03] * 100))

    def place_many():
        for _ in range(100):
            guarded.place(task(1), CLUSTER)

    with pytest.raises(PolicyError, match="is too slow"):
        place_many()


def test_a_slow_decision_now_and_then_is_forgiven():
    """One of half a second among a hundred quick ones."""
    guarded = GuardedPolicy(Fake(Placement("n1", "there")), FakeTimer(0.5, *[0.001] * 99))

    answers = [guarded.place(task(1), CLUSTER).node for _ in range(100)]

    assert answers == ["n1"] * 100


def test_without_a_timer_nothing_is_slow():
    """A simulation does not depend on the machine that runs it."""
    assert GuardedPolicy(Fake(Wait("later", 1.0))).place(task(1), CLUSTER).until_s == 1.0


@pytest.mark.parametrize("until_s", [10.0, 3.0, float("nan")])
def test_a_wait_must_end_in_the_future(until_s):
    """Whoever asks again at once would ask for ever, at one moment."""
    guarded = GuardedPolicy(Fake(Wait("not yet", until_s)))

    with pytest.raises(PolicyError, match=r"policy 'mine' .* task 'k'"):
        guarded.place(task("k"), FakeCluster([view("n1")], now_s=10.0))
