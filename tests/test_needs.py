"""Whether stages can ever get what they hold."""

from __future__ import annotations

import pytest

from sage_dask.errors import PlanError
from sage_dask.needs import check_gates, check_quota, check_resources, check_stock
from sage_dask.operators.basic import Map
from sage_dask.schedule import Scheduling
from sage_dask.stage import Stage


def stages(**needs):
    """Return a stage that needs nothing, and one with these needs."""
    return [Stage("read_all", Map(dict)), Stage("embed", Map(dict), **needs)]


def test_an_impossible_resource_is_refused():
    """A need above every worker's supply would wait for ever, and is told beside the supply."""
    wanted = stages(resources={"LLM": 4})

    with pytest.raises(PlanError, match=r"asks for LLM=4 .* one worker offers is LLM=2"):
        check_resources("rag", wanted, [{"LLM": 2}, {"LLM": 1, "GPU": 8}])


def test_needs_must_be_met_by_one_worker_together():
    """Two resources on two different workers do not make one that can run the task."""
    wanted = stages(resources={"LLM": 1, "GPU": 1})

    with pytest.raises(PlanError, match="would wait for ever"):
        check_resources("rag", wanted, [{"LLM": 1}, {"GPU": 1}])


def test_a_misspelt_resource_is_recognised():
    """A resource nobody offers is compared with those that somebody does."""
    with pytest.raises(PlanError, match="did you mean 'LLM'"):
        check_resources("rag", stages(resources={"LML": 1}), [{"LLM": 2}])


def test_a_name_in_the_wrong_case_is_recognised():
    """Dask lower-cases resources that come from its settings, which is hard to see."""
    with pytest.raises(PlanError, match="did you mean 'llm'"):
        check_resources("rag", stages(resources={"LLM": 1}), [{"llm": 2}])


def test_an_unknown_gate_is_refused_with_how_to_set_it():
    """The message tells who, what there is, both ways to set the gate, and what was meant."""
    with pytest.raises(PlanError) as told:
        check_gates("rag", stages(gates={"lml": 1}), {"llm": 8, "disk": 2})

    assert str(told.value) == (
        "pipeline 'rag': stage 'embed' holds gate 'lml', but the cluster's gates are 'disk', "
        "'llm'; set it with cluster.set_gate('lml', 32) or run(gates={'lml': 32}); "
        "did you mean 'llm'?"
    )


def test_a_cluster_without_gates_says_so():
    """Where there is no gate at all, the list of them is the word none."""
    with pytest.raises(PlanError, match="the cluster's gates are none; set it with"):
        check_gates("rag", stages(gates={"llm": 1}), {})


def test_the_suggested_limit_is_never_too_small():
    """A stage that needs more than the usual limit is told to set one that lets it run."""
    with pytest.raises(PlanError, match=r"set_gate\('llm', 40\) or run\(gates=\{'llm': 40\}\)"):
        check_gates("rag", stages(gates={"llm": 40}), {})


def test_more_slots_than_the_limit_are_refused():
    """A task that wants four of two slots would wait for ever."""
    with pytest.raises(PlanError) as told:
        check_gates("rag", stages(gates={"llm": 4}), {"llm": 2.0})

    assert str(told.value) == (
        "pipeline 'rag': stage 'embed' asks for 4 slots of gate 'llm' per task, but its limit is "
        "2, so it would wait for ever; lower Stage(gates=...), or raise it with "
        "cluster.set_gate('llm', 4) or run(gates={'llm': 4})"
    )


@pytest.mark.parametrize(
    ("needs", "quota", "message"),
    [
        ({"resources": {"LLM": 2}}, {"LLM": 1}, "holds LLM=2 per task, .* quota is LLM=1"),
        ({"gates": {"llm": 3}}, {"llm": 2.5}, r"holds llm=3 per task, .* quota is llm=2\.5"),
    ],
)
def test_a_quota_below_one_task_is_refused(needs, quota, message):
    """A job that may never hold what one of its tasks holds would wait for ever."""
    with pytest.raises(PlanError, match=f"'rag': stage 'embed' {message}.* raise the quota"):
        check_quota("rag", stages(**needs), quota)


def test_every_task_takes_a_thread_of_the_quota():
    """Half a thread is less than the first stage's task needs, whatever else it holds."""
    with pytest.raises(PlanError, match="stage 'read_all' holds threads=1 per task"):
        check_quota("rag", stages(), {"threads": 0.5})


def test_what_is_just_enough_is_accepted():
    """A need equal to the supply, the limit or the quota can be met."""
    wanted = stages(resources={"LLM": 2}, gates={"llm": 4})

    check_resources("rag", wanted, [{"LLM": 1}, {"LLM": 2}])
    check_gates("rag", wanted, {"llm": 4})
    check_quota("rag", wanted, {"LLM": 2, "llm": 4, "threads": 1, "GPU": 0.1})
    check_stock("rag", stages(resources={"LLM": 2}, priority=1), Scheduling("dask", priority=2))


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"gates": {"llm": 32}}, "'gates'"),
        ({"weight": 2}, "'weight'"),
        ({"quota": {"LLM": 1}, "weight": 0.5}, "'quota', 'weight'"),
    ],
)
def test_stock_placement_refuses_what_it_would_ignore(options, named):
    """Dask has neither gates nor shares, so asking for them with its placement is a mistake."""
    with pytest.raises(PlanError, match=f"'rag': {named} given with policy 'dask'.*'spread'"):
        check_stock("rag", stages(), Scheduling("dask", **options))


def test_stock_placement_refuses_a_stage_with_gates():
    """The stage and its gates are named."""
    with pytest.raises(PlanError, match=r"stage 'embed' holds gates \('disk', 'llm'\), but policy"):
        check_stock("rag", stages(gates={"llm": 1, "disk": 1}), Scheduling("dask"))
