"""Batches as Dask graphs."""

from __future__ import annotations

import dask
import pytest
from dask.delayed import Delayed

from sage_dask import Collect, FromIterable, Pipeline
from sage_dask.errors import PlanError
from sage_dask.graph import build_graph
from sage_dask.record import Batch
from sage_dask.worker import PROGRAM_LIMIT_BYTES, make_program, pack


def two_tasks():
    """Return a pipeline of two tasks: the second needs a resource."""
    return (
        Pipeline("two")
        .source(FromIterable([{"x": n} for n in range(5)]))
        .map(lambda record: {"x": record["x"] + 1}, name="add", priority=0)
        .map(lambda record: {"x": record["x"] * 2}, name="double", resources={"LLM": 1})
        .sink(Collect())
    )


def graph_of(pipeline, num_batches=3):
    """Return the delayed outputs of some empty batches."""
    plan = pipeline.plan()
    programs = {task.name: make_program(task, job="deadbeef") for task in plan.stages}
    empty = pack(Batch(0, [], []))
    return build_graph(plan, programs, "deadbeef", dict.fromkeys(range(num_batches), empty))


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


def test_layers_carry_stage_job_and_resources():
    """What the scheduler and its plugins must know stands in the layer's annotations."""
    layers = graph_of(two_tasks())[0].dask.layers

    assert layers["add-deadbeef"].annotations == {"stage": "add", "job": "deadbeef"}
    assert layers["double-deadbeef"].annotations["resources"] == {"LLM": 1}


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
