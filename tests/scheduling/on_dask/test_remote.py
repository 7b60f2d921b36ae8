"""The scheduler's answers to clients, without a network between."""

from __future__ import annotations

import pytest
from distributed.protocol import pickle

from sage_dask.errors import PlanError
from sage_dask.scheduling.on_dask.settings import Settings
from tests.scheduling.on_dask.plugged import ours, plugged, tasks


@pytest.fixture
def state():
    """Lend a scheduler with a plugin, a busy worker and two tasks that wait."""
    with plugged(Settings("fifo")) as (dask, plugin):
        dask.add_worker("a", threads=1)
        dask.submit(tasks(3), ours(gates={"llm": 1}))
        yield dask, plugin


def ask(dask, question, *arguments):
    """Ask as a client does, and return the answer."""
    answers = []

    async def call():
        handler = dask.scheduler.handlers["sage_dask"]
        answers.append(await handler(question=question, arguments=pickle.dumps(arguments)))

    dask._run(call())
    return pickle.loads(answers[0])


def test_a_policy_set_decides_from_then_on_and_after_a_restart(state):
    """It is noted in the settings, from which a dispatcher is made anew."""
    dask, plugin = state

    ask(dask, "set_policy", "pack", "fallback")
    at_once = (plugin.dispatcher.policy.name, plugin.dispatcher.on_policy_error)
    dask.restart()

    assert at_once == ("pack", "fallback")
    assert (plugin.dispatcher.policy.name, plugin.dispatcher.on_policy_error) == at_once


def test_setting_a_policy_keeps_what_is_done_about_errors(state):
    """None leaves that as it is."""
    dask, plugin = state
    ask(dask, "set_policy", "pack", "fallback")

    ask(dask, "set_policy", "fifo", None)

    assert plugin.dispatcher.on_policy_error == "fallback"


def test_an_unknown_policy_is_answered_with_the_error_and_changes_nothing(state):
    """What one client mistypes is no other's trouble."""
    dask, plugin = state

    answer = ask(dask, "set_policy", "spraed", None)

    assert isinstance(answer, PlanError)
    assert "did you mean 'spread'?" in str(answer)
    assert plugin.dispatcher.policy.name == plugin.settings.policy == "fifo"


def test_a_gate_set_lets_waiting_tasks_through_and_outlives_a_restart(state):
    """Closed, nothing starts; without a limit, what has a thread does."""
    dask, plugin = state
    ask(dask, "set_gate", "llm", 0)
    dask.add_worker("b", threads=9)
    while_closed = dask.running_on("b")

    ask(dask, "set_gate", "llm", None)
    opened = len(dask.running_on("b"))
    ask(dask, "set_gate", "llm", 5)
    dask.restart()

    assert (while_closed, opened) == (set(), 2)
    assert plugin.dispatcher.gates["llm"].limit == 5


def test_a_refused_limit_is_not_noted(state):
    """A restart would stumble over it."""
    dask, plugin = state

    answer = ask(dask, "set_gate", "llm", -1)

    assert isinstance(answer, PlanError)
    assert plugin.settings.gates == {}


@pytest.mark.parametrize("name", ["rag", "rag/1"])
def test_weights_and_quotas_count_for_a_job_or_its_pipeline(state, name):
    """At once, and after a restart."""
    dask, plugin = state

    ask(dask, "set_weight", name, 3.0)
    ask(dask, "set_quota", name, {"threads": 1})

    job = plugin.dispatcher.jobs["rag/1"]
    assert (job.weight, job.quota) == (3.0, {"threads": 1})
    assert plugin.settings.weights == {name: 3.0}


def test_statistics_are_those_of_the_moment(state):
    """They travel as they are."""
    dask, _ = state

    answer = ask(dask, "statistics")

    assert (answer.num_queued, answer.num_running, answer.policy) == (2, 1, "fifo")


def test_why_finds_a_task_by_its_key_and_by_a_part_of_it(state):
    """Exactly named it comes first, and a part brings a few."""
    dask, _ = state
    dask.submit({"t-1-b": []}, ours())

    exact = ask(dask, "why", "t-1")
    part = ask(dask, "why", "t-")

    assert exact[0][0] == "t-1"
    assert {key for key, _ in part} == {"t-0", "t-1", "t-2", "t-1-b"}
    assert all(story for _, story in part)


def test_why_of_nothing_is_empty(state):
    """No key, no story."""
    dask, _ = state

    assert ask(dask, "why", "nobody") == []


def test_detaching_ends_the_conversation(state):
    """Dask places the rest."""
    dask, _ = state

    ask(dask, "detach")

    assert "sage_dask" not in dask.scheduler.handlers
    assert "no-worker" not in dask.states().values()
