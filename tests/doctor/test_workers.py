"""Workers: how many, how they are, and what they supply."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sage_dask.doctor.finding import Mark
from sage_dask.doctor.workers import WorkerFacts, stage_findings, worker_findings
from sage_dask.operators.basic import Map
from sage_dask.stage import Stage

GIB = 2**30
WELL = WorkerFacts("a-0", "a", 4, 4 * GIB, GIB, silent_s=0.2, resources={"LLM": 2})
OTHER = replace(WELL, name="b-0", node="b")
ADDRESS = "tcp://head:8786"


def test_workers_are_counted_by_node():
    """Threads, memory and resources are those of all together."""
    (found,) = worker_findings([WELL, OTHER], ADDRESS, {"a": 8 * GIB})

    assert found.mark is Mark.OK
    assert found.value == (
        "2 on 2 nodes (a, b), 8 threads, 2.0 GiB used of 8.0 GiB, resources LLM=4"
    )


def test_a_cluster_without_workers_fails():
    """The command to start one names the scheduler."""
    (found,) = worker_findings([], ADDRESS, {})

    assert (found.mark, found.advice) == (Mark.FAIL, f"start some: dask worker {ADDRESS}")


@pytest.mark.parametrize(
    ("change", "mark", "told"),
    [
        ({"silent_s": 45.0}, Mark.FAIL, "a-0: not heard of for up to 45 s"),
        ({"is_paused": True, "memory_used": 4 * GIB}, Mark.WARN, "a-0: paused"),
        ({"memory_used": 3.5 * GIB}, Mark.WARN, "a-0: more than 80%"),
        ({"memory_limit": 0}, Mark.NOTE, "a-0: no memory limit"),
        ({"memory_limit": 9 * GIB}, Mark.WARN, "a: limits of 9.0 GiB in all, and the machine"),
    ],
)
def test_a_worker_that_is_not_well_is_named(change, mark, told):
    """One finding says which and what to do, and the well one stays out of it."""
    _, found = worker_findings([replace(WELL, **change), OTHER], ADDRESS, {"a": 8 * GIB})

    assert found.mark is mark
    assert told in found.value
    assert found.advice


def test_a_cluster_that_is_all_paused_fails():
    """Nobody takes a task."""
    _, found = worker_findings([replace(WELL, is_paused=True)], ADDRESS, {})

    assert (found.mark, "paused" in found.value) == (Mark.FAIL, True)


def test_what_workers_supply_is_compared_with_each_stage():
    """The planner's own words tell what can not be had; a stage that needs nothing is silent."""
    stages = [
        Stage("read_all", Map(dict)),
        Stage("few", Map(dict), resources={"LLM": 1}, gates={"llm": 2}),
        Stage("many", Map(dict), resources={"LLM": 4}, gates={"lml": 1}),
    ]

    few, many, gate = stage_findings("rag", stages, [{"LLM": 2}], {"llm": 8})

    assert (few.mark, few.value) == (Mark.OK, "LLM=1, llm=2 per task can be had")
    assert [each.mark for each in (many, gate)] == [Mark.FAIL] * 2
    assert many.what == gate.what == "stage many"
    assert many.value.startswith("asks for LLM=4 per task, but the most that one worker offers")
    assert "did you mean 'llm'?" in gate.advice
