"""Batches as Dask graphs."""

from __future__ import annotations

from typing import ClassVar

import dask
import pytest
from dask.delayed import Delayed

from sage_dask import Collect, FromIterable, Pipeline
from sage_dask.endpoint.limit import RequestLimit
from sage_dask.errors import PlanError
from sage_dask.graph import Claim, build_graph
from sage_dask.record import Batch
from sage_dask.schedule import STOCK, Scheduling
from sage_dask.stage import Operator
from sage_dask.worker import PROGRAM_LIMIT_BYTES, make_program, pack, run_task, run_waiting_task


def two_tasks():
    """Return a pipeline of two tasks: the second needs a resource."""
    return (
        Pipeline("two")
        .source(FromIterable([{"x": n} for n in range(5)]))
        .map(lambda record: {"x": record["x"] + 1}, name="add", priority=0)
        .map(lambda record: {"x": record["x"] * 2}, name="double", resources={"LLM": 1})
        .sink(Collect())
    )


def graph_of(pipeline, num_batches=3, priority=0.0, job_priority=0.0, **scheduling):
    """Return the delayed outputs of some empty batches, whose records have a priority."""
    plan = pipeline.plan()
    programs = {task.name: make_program(task, job="deadbeef") for task in plan.stages}
    packed = dict.fromkeys(range(num_batches), pack(Batch(0, [], [])))
    claim = Claim("job", Scheduling(priority=job_priority, **scheduling), priority)
    return build_graph(plan.pipeline, plan.stages, programs, "deadbeef", packed, claim)


def annotations(pipeline, **options):
    """Return the annotations of each layer by its task's name."""
    layers = graph_of(pipeline, **options)[0].dask.layers
    return {name.partition("-")[0]: layer.annotations for name, layer in layers.items()}


def test_outputs_are_delayed_with_one_layer_per_task():
    """The graph is made of delayed tasks, one layer per task of the plan."""
    outputs = graph_of(two_tasks())

    assert all(isinstance(output, Delayed) for output in outputs)
    assert list(outputs[0].dask.layers) == ["add-deadbeef", "double-deadbeef"]
    assert outputs[0].dask.dependencies["double-deadbeef"] == {"add-deadbeef"}


def test_keys_tell_stage_job_and_batch():
    """A key is the task's name with the job's id, and the batch's index; Dask shows the name."""
    outputs = graph_of(two_tasks())

    assert [output.key for output in outputs] == [("double-deadbeef", n) for n in range(3)]
    assert dask.utils.key_split(outputs[0].key) == "double"


def test_layers_tell_the_plugin_whose_they_are():
    """Job, pipeline and stage stand in one annotation, and what says nothing is left out."""
    told = annotations(two_tasks())

    assert told["add"] == {"sage": {"job": "job", "pipeline": "two", "stage": "add"}}
    assert told["double"] == {
        "sage": {"job": "job", "pipeline": "two", "stage": "double"},
        "resources": {"LLM": 1},
    }


def test_layers_tell_what_their_tasks_hold_and_get():
    """Gates are the stage's, weight and quota the job's; all are plain values."""
    pipeline = two_tasks().map(dict, name="ask", gates={"llm": 2})

    told = annotations(pipeline, weight=2, quota={"LLM": 8, "threads": 16})

    assert told["ask"]["sage"] == {
        "job": "job",
        "pipeline": "two",
        "stage": "ask",
        "gates": {"llm": 2},
        "weight": 2.0,
        "quota": {"LLM": 8, "threads": 16},
    }
    assert "gates" not in told["double"]["sage"]


def test_priorities_of_job_stage_and_records_add_up():
    """The sum is what the plugin orders by, and what Dask is told too."""
    pipeline = two_tasks().map(dict, name="ask", priority=10)

    told = annotations(pipeline, priority=0.5, job_priority=2)

    assert (told["ask"]["sage"]["priority"], told["ask"]["priority"]) == (12.5, 12.5)
    assert (told["add"]["sage"]["priority"], told["add"]["priority"]) == (2.5, 2.5)


def test_priorities_that_cancel_out_are_left_out():
    """Zero is what a task has anyway."""
    told = annotations(two_tasks(), priority=-3.0, job_priority=3)

    assert "priority" not in told["add"] | told["add"]["sage"]


def test_stock_placement_carries_nothing_for_the_plugin():
    """With Dask's own policy the plugin must leave the tasks alone, and Dask gets the priority."""
    told = annotations(two_tasks(), priority=1.0, policy="dask")

    assert told["add"] == {"stage": "add", "job": "job", "priority": 1.0}
    assert told["double"]["resources"] == {"LLM": 1}


def test_delayed_batches_are_placed_by_dask():
    """Whoever computes them may have no plugin, or none that knows the job."""
    (batch,) = two_tasks().map(dict, name="ask", gates={"llm": 1}).to_delayed()

    assert all("sage" not in layer.annotations for layer in batch.dask.layers.values())
    assert [layer.annotations["stage"] for layer in batch.dask.layers.values()] == [
        "add",
        "double",
        "ask",
    ]


def test_the_graph_grows_linearly():
    """Two batches more are two tasks more per layer, and no copies of the others."""
    small, large = (graph_of(two_tasks(), count)[0].dask for count in (10, 12))

    assert len(large) - len(small) == 4


def test_delayed_batches_compute_on_any_dask_scheduler():
    """The whole pipeline is a list of delayed batches, in the order of reading."""
    batches = dask.compute(*two_tasks().to_delayed(batch_size=2), scheduler="threads")

    assert [batch.records for batch in batches] == [
        [{"x": 2}, {"x": 4}],
        [{"x": 6}, {"x": 8}],
        [{"x": 10}],
    ]


def test_an_operator_that_can_not_travel_is_refused():
    """What can not be pickled is told before any work, with where to put it."""

    class Holding:
        def __reduce__(self):
            raise TypeError("a lock")

    held = Holding()
    pipeline = two_tasks().map(lambda record: {"x": held}, name="hold")

    with pytest.raises(PlanError, match=r"can not be sent to workers.*make connections.* in setup"):
        pipeline.to_delayed()


def test_an_operator_that_carries_a_table_is_refused():
    """Data captured by accident would travel with every batch."""
    table = bytes(PROGRAM_LIMIT_BYTES)
    pipeline = two_tasks().map(lambda record: {"x": len(table)}, name="look")

    with pytest.raises(PlanError, match=r"load large data in setup\(\), or pass a path"):
        pipeline.to_delayed()


URL = "http://gpu-0:8000/v1"


class Asker(Operator):
    """Waits for a model server."""

    endpoints: ClassVar = (URL,)
    request_limit: ClassVar = RequestLimit(None, 64)

    async def process_batch(self, records):
        return list(records)


def asking():
    """Return a pipeline of two tasks: one computes, one asks a server."""
    source = FromIterable([{"x": 1}])
    return (
        Pipeline("asking").source(source).map(dict, name="m").stage("ask", Asker()).sink(Collect())
    )


def test_a_task_that_waits_says_what_it_takes_instead_of_a_thread():
    """No thread, its servers with what the user asks of their gates, and requests per batch."""
    said = annotations(asking())["ask"]["sage"]

    assert said["threads"] == 0
    assert said["endpoints"] == {URL: (None, 64)}
    assert RequestLimit(*said["endpoints"][URL]) == Asker.request_limit
    assert said["requests"] == 0
    assert not {"threads", "endpoints", "requests"} & annotations(asking())["m"]["sage"].keys()


def test_requests_are_told_by_the_records_of_a_batch():
    """Each of them may become one."""
    plan = asking().plan()
    programs = {task.name: make_program(task, job="asking/1") for task in plan.stages}
    packed = {0: pack(Batch(0, [], []))}

    (output,) = build_graph("p", plan.stages, programs, "k", packed, Claim("1"), num_records=7)

    assert output.dask.layers["ask-k"].annotations["sage"]["requests"] == 7


@pytest.mark.parametrize(("policy", "runs"), [("spread", run_waiting_task), (STOCK, run_task)])
def test_a_task_that_waits_is_a_coroutine_where_there_is_a_dispatcher(policy, runs):
    """Stock Dask's schedulers have no slots to give, nor always a loop: there it takes a thread."""
    (output, *_) = graph_of(asking(), policy=policy)

    made = output.dask[output.key]

    assert made.func is runs
