"""What is asked for at the controls is done if it may be, and answered in words."""

from __future__ import annotations

import pytest

from sage_dask.dashboard.page.steering import Steering
from tests.dashboard.fake_monitor import FakeActions, job, snapshot


class Desk:
    """A steering whose cluster is as the test says."""

    def __init__(self, may_control: bool = True) -> None:
        self.actions = FakeActions()
        self.now_s = 100.0
        self.may_control = may_control
        self.jobs = [job("rag/1"), job("rag/0", "done")]
        self.steering = Steering(self._look, lambda: self.actions)

    def _look(self):
        return snapshot(self.jobs, now_s=self.now_s, may_control=self.may_control)


ASKED = [
    ("pause", ("rag/1",)),
    ("resume", ("rag/1",)),
    ("cancel", ("rag/1",)),
    ("set_policy", ("fifo",)),
    ("set_gate", ("llm", "16")),
]


@pytest.mark.parametrize(("method", "said"), ASKED)
def test_nothing_is_done_where_people_may_only_look(method, said):
    """However often it is asked for, and whatever the browser was shown."""
    desk = Desk(may_control=False)

    for _ in range(3):
        answer = getattr(desk.steering, method)(*said)
        desk.now_s += 1

    assert desk.actions.calls == []
    assert answer.kind == "bad"
    assert "may look and not act" in answer.words


@pytest.mark.parametrize(
    ("method", "said", "done"),
    [
        ("pause", ("rag/1",), ("pause", "rag/1")),
        ("resume", ("rag/1",), ("resume", "rag/1")),
        ("set_policy", ("fifo",), ("set_policy", "fifo")),
        ("set_gate", ("llm", " 16 "), ("set_gate", "llm", 16.0)),
        ("set_gate", ("llm", ""), ("set_gate", "llm", None)),
    ],
)
def test_what_may_be_done_is_done_at_once_and_said(method, said, done):
    """The answer names what it is about."""
    desk = Desk()

    answer = getattr(desk.steering, method)(*said)

    assert desk.actions.calls == [done]
    assert answer.kind == "good"
    assert done[1] in answer.words


def test_a_job_is_cancelled_the_second_time_that_it_is_asked_for():
    """The first time asks back."""
    desk = Desk()

    first = desk.steering.cancel("rag/1")
    desk.now_s += 2
    second = desk.steering.cancel("rag/1")

    assert (first.kind, second.kind) == ("warn", "good")
    assert desk.actions.calls == [("cancel", "rag/1")]


def test_a_double_click_is_no_second_thought():
    """Half a second must pass."""
    desk = Desk()

    desk.steering.cancel("rag/1")
    desk.now_s += 0.2
    answer = desk.steering.cancel("rag/1")

    assert answer.kind == "warn"
    assert desk.actions.calls == []


def test_a_request_to_cancel_is_forgotten_after_ten_seconds():
    """Whoever comes back later is asked again."""
    desk = Desk()

    desk.steering.cancel("rag/1")
    assert desk.steering.awaits_confirmation("rag/1", desk.now_s + 9)
    desk.now_s += 11
    assert not desk.steering.awaits_confirmation("rag/1", desk.now_s)
    desk.steering.cancel("rag/1")

    assert desk.actions.calls == []


def test_a_second_request_for_another_job_is_a_first_one():
    """Choosing another job in between ends neither."""
    desk = Desk()
    desk.jobs.append(job("rag/2"))

    desk.steering.cancel("rag/1")
    desk.now_s += 2
    answer = desk.steering.cancel("rag/2")

    assert answer.kind == "warn"
    assert desk.actions.calls == []


@pytest.mark.parametrize("method", ["pause", "resume", "cancel"])
@pytest.mark.parametrize(("name", "why"), [("rag/9", "no job"), ("rag/0", "has ended: done")])
def test_a_job_that_is_gone_or_over_is_left_alone(method, name, why):
    """And the answer says which of both it is."""
    desk = Desk()

    answer = getattr(desk.steering, method)(name)

    assert desk.actions.calls == []
    assert why in answer.words


@pytest.mark.parametrize("typed", ["many", "nan", "inf"])
def test_a_limit_that_is_no_number_is_refused(typed):
    """With what was typed, and what to type."""
    desk = Desk()

    answer = desk.steering.set_gate("llm", typed)

    assert desk.actions.calls == []
    assert repr(typed) in answer.words


def test_what_the_cluster_refuses_is_told_in_its_words():
    """The page goes on."""
    answer = Desk().steering.set_policy("pack")

    assert answer == ("Not done: policy 'pack' can not be had here", "bad")
