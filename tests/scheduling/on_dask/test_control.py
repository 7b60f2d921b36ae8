"""What an operator sees and changes from any client, over a real connection."""

from __future__ import annotations

import logging

import pytest

from sage_dask.errors import PlanError, RunError
from sage_dask.scheduling.on_dask import control as control_module
from sage_dask.scheduling.on_dask.control import SchedulerControl
from sage_dask.scheduling.on_dask.versions import version_notice
from sage_dask.scheduling.policies import make_policy
from sage_dask.scheduling.statistics import Notice
from tests.scheduling.on_dask.live import (
    control_of,
    plugin_of,
    run_until_opened,
    submit,
    switch,
    until,
)


@pytest.fixture
def control(client):
    """Lend a dispatcher, detached when the test is over."""
    with control_of(client) as control:
        yield control


def test_a_scheduler_without_a_dispatcher_says_how_to_get_one(client):
    """Whatever is asked, the answer names the address and both ways."""
    control = SchedulerControl(client)

    with pytest.raises(RunError, match="as stock Dask does; run a pipeline with a policy first"):
        control.statistics()
    assert not control.is_started
    assert control.gates() == {}


def test_starting_twice_keeps_the_first(control):
    """One client's settings are not lost to another's."""
    control.set_policy("pack")

    control.start()

    assert control.is_started
    assert control.policy == "pack"


def test_a_policy_is_set_by_name_with_parameters(control, cluster):
    """What is placed next is placed by it."""
    control.set_policy("pack", target_wait_s=2.5, on_policy_error="fallback")

    core = plugin_of(cluster).dispatcher
    assert core.policy == make_policy("pack", target_wait_s=2.5)
    assert core.on_policy_error == "fallback"


def test_an_unknown_policy_is_refused_before_anyone_is_asked(client):
    """Also where there is no dispatcher."""
    with pytest.raises(PlanError, match="did you mean 'spread'"):
        SchedulerControl(client).set_policy("spraed")


def test_an_error_of_the_scheduler_is_raised_here(control):
    """It keeps its class and its words."""
    with pytest.raises(PlanError, match="gate 'llm': a limit of -1 slots"):
        control.set_gate("llm", -1)


def test_gates_are_those_with_a_limit(control):
    """None takes one away."""
    control.set_gate("llm", 4)
    control.set_gate("gpu", 2)
    control.set_gate("gpu", None)

    assert control.gates() == {"llm": 4}


def test_shares_are_set_for_a_job(control, cluster):
    """Weights and quotas reach the dispatcher."""
    control.set_weight("rag", 2)
    control.set_quota("rag", {"threads": 1})

    job = plugin_of(cluster).dispatcher.jobs
    assert (job._weights, job._quotas) == ({"rag": 2}, {"rag": {"threads": 1}})


def test_statistics_and_why_tell_of_what_runs_and_waits(control, client, cluster):
    """The story of a task ends with what it waits for."""
    control.set_gate("llm", 1)
    with switch("control") as held:
        futures = [
            submit(client, run_until_opened, "control", key=f"why-{n}", gates={"llm": 1})
            for n in range(3)
        ]
        until(cluster, lambda: held.num_running == 1)
        until(cluster, lambda: len(plugin_of(cluster).dispatcher.queue) == 2)

        statistics = control.statistics()
        stories = dict(control.why("why-"))

        held.opened.set()
        client.gather(futures)

    assert (statistics.num_running, statistics.num_queued) == (1, 2)
    assert statistics.gates["llm"].held == 1
    assert any("started on" in line for line in stories["why-0"])
    assert "waits for gate 'llm': 1 of 1 slots held" in stories["why-2"][-1]


def test_notices_go_to_a_listener(control, cluster):
    """For as long as it listens."""
    heard = []
    with control.notices(heard.append):
        topics = cluster.scheduler._broker._topics
        until(cluster, lambda: topics["sage-dask"].subscribers)
        cluster.loop.add_callback(plugin_of(cluster).publish, Notice("policy", "planted"))
        until(cluster, lambda: heard)
    until(cluster, lambda: not topics["sage-dask"].subscribers)

    assert heard == [Notice("policy", "planted")]


def test_two_runs_of_one_client_both_hear_notices(control, cluster):
    """The one that ends first does not take the other's along."""
    first, second = [], []
    topics = cluster.scheduler._broker._topics
    with control.notices(first.append):
        with control.notices(second.append):
            until(cluster, lambda: topics["sage-dask"].subscribers)
            cluster.loop.add_callback(plugin_of(cluster).publish, Notice("policy", "one"))
            until(cluster, lambda: first and second)
        cluster.loop.add_callback(plugin_of(cluster).publish, Notice("policy", "two"))
        until(cluster, lambda: len(first) == 2)

    assert [notice.text for notice in first] == ["one", "two"]
    assert [notice.text for notice in second] == ["one"]


def test_notices_are_logged_where_nobody_listens(control, cluster, caplog):
    """In the driver's log, where people look."""
    with caplog.at_level(logging.WARNING, "sage_dask"), control.notices():
        topics = cluster.scheduler._broker._topics
        until(cluster, lambda: topics["sage-dask"].subscribers)
        cluster.loop.add_callback(plugin_of(cluster).publish, Notice("policy", "planted"))
        until(cluster, lambda: ("sage_dask", logging.WARNING, "planted") in caplog.record_tuples)


def test_an_untested_release_is_told_in_the_drivers_log(client, monkeypatch, caplog):
    """The scheduler's own notice is out before anyone can listen."""
    monkeypatch.setattr(control_module, "version_notice", lambda: version_notice("2027.1.0"))

    with control_of(client):
        pass

    assert "distributed 2027.1.0 is outside the tested range" in caplog.text


def test_detaching_leaves_stock_dask(control, client):
    """Tasks of ours run all the same."""
    control.detach()

    assert not control.is_started
    assert submit(client, abs, -1, key="after-detach").result(timeout=60) == 1
