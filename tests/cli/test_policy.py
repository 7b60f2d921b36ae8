"""``sage-dask policy`` and ``sage-dask why``: the scheduling of a cluster from outside."""

from __future__ import annotations

import json

import dask
import pytest
from distributed import Client, LocalCluster

from sage_dask.scheduling.on_dask.control import SchedulerControl


@pytest.fixture(scope="module")
def cluster():
    """One worker in this process, reached as a cluster of its own would be."""
    with LocalCluster(
        n_workers=1,
        threads_per_worker=2,
        processes=False,
        protocol="tcp",
        host="127.0.0.1",
        dashboard_address=None,
    ) as cluster:
        yield cluster


@pytest.fixture
def control(cluster):
    """Lend the control of a dispatcher that has just been started."""
    with Client(cluster) as client:
        control = SchedulerControl(client)
        control.start()
        yield control
        control.detach()


@pytest.fixture
def policy(cluster, cli, control):
    """Lend a function that calls ``sage-dask policy`` for the cluster."""
    return lambda *words: cli("policy", *words, "--scheduler", cluster.scheduler_address)


def test_set_changes_the_policy_and_its_parameters(policy, control):
    """The policy that is named decides from then on, with what it is given."""
    result = policy("set", "priority", "--place", "pack", "--with", "ageing=2")

    assert result.exit_code == 0, result.stderr
    assert "placed by 'priority'" in result.stderr
    assert control.policy == "priority"


def test_an_unknown_policy_or_parameter_is_a_usage_error(policy):
    """A slip of the pen says what there is, and changes nothing."""
    misspelt, unknown = policy("set", "pakc"), policy("set", "pack", "--with", "depth=3")

    assert misspelt.exit_code == unknown.exit_code == 2
    assert "did you mean 'pack'?" in misspelt.stderr
    assert "does not take 'depth'" in unknown.stderr


def test_gates_weights_and_quotas_are_set_and_shown(policy):
    """What an operator sets is what ``show`` tells, for people and for programs."""
    policy("gate", "llm", "32")
    policy("gate", "open", "none")
    assert policy("weight", "rag", "2").exit_code == 0
    assert policy("quota", "rag", "threads=8", "llm=4").exit_code == 0

    shown, parsed = policy("show"), json.loads(policy("show", "--json").stdout)

    assert "policy   spread" in shown.stdout
    assert "gate     llm: 0 held, 32 slots" in shown.stdout
    assert parsed["gates"]["open"] == {"held": 0.0, "limit": None}
    assert parsed["num_queued"] == 0


def test_a_gate_takes_a_number_or_none(policy):
    """Anything else is refused with what was given."""
    result = policy("gate", "llm", "many")

    assert result.exit_code == 2
    assert "'many' is neither a number nor 'none'" in result.stderr


def test_why_tells_the_story_of_a_task(cli, cluster, control):
    """Part of a key is enough; the reason is the policy's own."""
    with Client(cluster) as client, dask.annotate(sage={"pipeline": "p", "job": "1"}):
        client.submit(abs, -1, key="nod-1").result()

    result = cli("why", "nod", "--scheduler", cluster.scheduler_address)

    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith("nod-1\n")
    assert "started on 127.0.0.1 (least loaded:" in result.stdout
    assert "done" in result.stdout
    as_json = cli("why", "nod-1", "--scheduler", cluster.scheduler_address, "--json")
    (lines,) = json.loads(as_json.stdout).values()
    # How long ago something was, has changed meanwhile.
    said = [line.partition(" ago ")[2] for line in lines]
    assert said
    assert [words for words in said if words and words in result.stdout] == said


def test_why_of_an_unknown_task_says_so(cli, cluster, control):
    """No story is an error, not an empty answer."""
    result = cli("why", "nowhere", "--scheduler", cluster.scheduler_address)

    assert result.exit_code == 1
    assert "no task with 'nowhere' in its key" in result.stderr


def test_a_cluster_without_a_dispatcher_says_how_to_start_one(cli, cluster):
    """Stock placement has nothing to show."""
    result = cli("policy", "show", "--scheduler", cluster.scheduler_address)

    assert result.exit_code == 1
    assert "places tasks as stock Dask does" in result.stderr
