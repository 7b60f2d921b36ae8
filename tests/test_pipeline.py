"""Declaring a pipeline: nothing changes, everything has a name, mistakes are told early."""

from __future__ import annotations

import functools

import pytest

from sage_dask import Collect, FromIterable, Operator, Pipeline
from sage_dask.errors import PlanError, RunError, SinkError, SourceError
from sage_dask.operators import Embed, Select
from sage_dask.runner import LocalRunner
from sage_dask.schedule import Scheduling
from sage_dask.scheduling.fifo import Fifo


def shout(record):
    return {**record, "text": record["text"].upper()}


def texts():
    """Return a pipeline that is whole but for its stages."""
    return Pipeline("texts").source(FromIterable([{"text": "a"}])).sink(Collect())


def names(pipeline):
    """Return the names of its stages."""
    return [stage.name for stage in pipeline.stages]


def test_every_method_returns_a_new_pipeline():
    """A shared prefix can be extended in two directions, and stays as it was."""
    prefix = texts().map(shout)

    first, second = prefix.map(dict, name="one"), prefix.filter(bool, name="two")

    assert names(prefix) == ["shout"]
    assert (names(first), names(second)) == (["shout", "one"], ["shout", "two"])


def test_source_and_sink_are_replaced_by_later_ones():
    """A pipeline can be pointed at another input and output; the first one keeps its own."""
    other_source, other_sink = FromIterable([{"text": "b"}]), Collect()
    pipeline = texts().map(shout)

    moved = pipeline.source(other_source).sink(other_sink)
    moved.run()

    assert [record["text"] for record in other_sink.records] == ["B"]
    assert pipeline.output.records == []


def test_functions_give_their_stages_a_name():
    """A function's own name is used, numbered where taken; a lambda is called for its kind."""
    pipeline = (
        texts().map(shout).map(shout).map(shout).map(lambda r: r).filter(lambda r: r).flat_map(list)
    )

    assert names(pipeline) == ["shout", "shout_2", "shout_3", "map", "filter", "list"]


def test_what_has_no_name_is_called_for_its_kind():
    """A partial object or a private function can not name a stage."""

    def _hidden(record):
        return record

    pipeline = texts().map(functools.partial(shout)).flat_map(_hidden)

    assert names(pipeline) == ["map", "flat_map"]


def test_a_name_of_ones_own_is_taken_as_it_is():
    """A name that is given twice is a mistake, not something to number."""
    pipeline = texts().map(shout, name="loud").map(shout, name="loud")

    with pytest.raises(PlanError, match="2 stages are called 'loud'"):
        pipeline.plan()


def test_options_reach_the_stage():
    """What a stage may be told, a function's stage may be told too."""
    (stage,) = (
        texts()
        .map(
            shout,
            batch_size=8,
            resources={"LLM": 1},
            gates={"llm": 2},
            priority=2,
            attempts=3,
            fuse=False,
        )
        .stages
    )

    assert (stage.batch_size, stage.resources, stage.priority) == (8, {"LLM": 1}, 2)
    assert stage.gates == {"llm": 2}
    assert (stage.attempts, stage.fuse) == (3, False)


@pytest.mark.parametrize("option", ["resources", "gates"])
def test_what_the_caller_gave_is_copied(option):
    """Changing the mapping afterwards changes no stage."""
    mine = {"LLM": 1}
    pipeline = texts().map(shout, **{option: mine})

    mine["LLM"] = 99

    assert getattr(pipeline.stages[0], option) == {"LLM": 1}


@pytest.mark.parametrize("declare", ["map", "filter", "flat_map"])
def test_stages_of_functions_may_hold_gates(declare):
    """A plain function that asks a model server is held back like an operator."""
    pipeline = getattr(texts(), declare)(shout, gates={"llm": 1})

    assert pipeline.stages[0].gates == {"llm": 1}


@pytest.mark.parametrize(
    ("declare", "message"),
    [
        (
            lambda p: p.source([{"text": "a"}]),
            r"pipeline 'p': source \[\{'text': 'a'\}\] is no Source",
        ),
        (lambda p: p.source(FromIterable), "is no Source; pass an instance"),
        (lambda p: p.sink(print), "sink .* is no Sink"),
        (lambda p: p.stage("embed", Embed), r"Embed is a class; pass an instance: Embed\(\.\.\.\)"),
        (lambda p: p.stage("shout", shout), r"is not an operator; .* use \.map\(\)"),
    ],
)
def test_what_is_of_the_wrong_kind_is_refused_where_it_is_declared(declare, message):
    """A list for a source, a class for an object: told in the line that is wrong."""
    with pytest.raises(PlanError, match=message):
        declare(Pipeline("p"))


@pytest.mark.parametrize(
    ("pipeline", "message"),
    [
        (Pipeline("p").sink(Collect()).map(shout), r"'p' has no source; add one with \.source"),
        (Pipeline("p").source(FromIterable([1])).map(shout), "'p' has no sink; add one"),
        (texts(), r"'texts' has no stage; add one with \.stage"),
        (texts().map(shout, name="read"), "choose another name"),
    ],
)
def test_an_unfinished_pipeline_is_told_what_it_lacks(pipeline, message):
    """What is missing is named with the method that adds it."""
    with pytest.raises(PlanError, match=message):
        pipeline.plan()


def test_a_field_nobody_writes_is_found_while_planning():
    """The stage, the field, those there are, and the one that was meant."""
    pipeline = texts().map(shout, reads=["txt"])

    with pytest.raises(PlanError, match=r"stage 'shout': needs field 'txt'.*did you mean 'text'"):
        pipeline.plan()


def test_a_policy_is_looked_up_by_name():
    """An unknown policy is told with those that are known."""
    with pytest.raises(
        PlanError, match=r"unknown policy 'dsk'; known are 'dask', 'fifo', .*; did you mean 'dask'"
    ):
        texts().map(shout).plan(policy="dsk")


@pytest.mark.parametrize(
    "policy",
    [
        None,
        "dask",
        "fifo",
        "round-robin",
        "spread",
        "pack",
        "priority",
        "load-aware-spread",
        "load-aware-pack",
        Fifo(),
    ],
)
def test_known_policies_and_objects_are_taken(policy):
    """A name of ours, an alias, a policy of one's own, or what the cluster has."""
    report = texts().map(shout).run(policy=policy)

    assert report.num_written == 1


def test_what_planning_is_told_may_be_left_open():
    """None says nothing, as where a command line passes on what it was not given."""
    unsaid = dict.fromkeys(("policy", "gates", "priority", "weight", "quota", "record_priority"))

    assert texts().map(shout).plan(**unsaid).stages[0].gates == {}


@pytest.mark.parametrize("method", ["plan", "run"])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weight": -1}, "weight=-1 must be a positive number"),
        ({"gates": {"llm": 0}}, "gate 'llm' is given 0 slots"),
        ({"policy": "dask", "weight": 2}, "'texts': 'weight' given with policy 'dask'"),
        ({"policy": "dask", "gates": {"llm": 2}}, "'texts': 'gates' given with policy 'dask'"),
        ({"quota": {"threads": 0.1}}, "stage 'shout' holds threads=1 per task"),
    ],
)
def test_scheduling_that_can_not_be_is_refused(method, options, message):
    """Planning and running refuse the same, in this process too, before anything is read."""
    with pytest.raises(PlanError, match=message):
        getattr(texts().map(shout), method)(**options)


def test_stock_placement_and_gates_exclude_each_other():
    """A stage that holds a gate can not be placed by Dask, which would ignore it."""
    asking = texts().map(shout, gates={"llm": 1})

    with pytest.raises(PlanError, match=r"stage 'shout' holds gates .* policy 'dask'"):
        asking.run(policy="dask")
    assert asking.run().num_written == 1


class FakeGatedRunner(LocalRunner):
    """Runs in this process, and says what gates it has."""

    def gates(self):
        return {"llm": 2}


def test_gates_are_checked_against_the_runner():
    """A runner whose gates are too narrow refuses the plan."""
    with pytest.raises(PlanError, match=r"asks for 4 slots of gate 'llm' .* its limit is 2"):
        texts().map(shout, gates={"llm": 4}).plan(FakeGatedRunner())
    with pytest.raises(PlanError, match=r"holds gate 'lmm', .*did you mean 'llm'"):
        texts().map(shout, gates={"lmm": 1}).run(FakeGatedRunner())


def test_a_run_may_bring_the_gates_that_its_stages_need():
    """Limits that are set before the run count in place of those that are there."""
    asking = texts().map(shout, gates={"llm": 4, "disk": 1})

    report = asking.run(FakeGatedRunner(), gates={"llm": 4, "disk": 1})

    assert report.num_written == 1


def test_scheduling_reaches_the_runner():
    """What a run is asked for is handed to the runner as it was given."""
    handed = []

    class FakeRunner(LocalRunner):
        def run(self, plan, options):
            handed.append(options.scheduling)
            return super().run(plan, options)

    given = {
        "policy": "pack",
        "gates": {"llm": 8},
        "priority": 2.5,
        "weight": 3,
        "quota": {"threads": 4},
        "record_priority": "urgency",
    }

    texts().map(shout).run(FakeRunner(), **given)

    assert handed == [Scheduling(**given)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size=0 must be at least 1"),
        ({"target_task_s": 0.0}, r"target_task_s=0\.0 must be a positive"),
        ({"target_task_s": float("nan")}, "target_task_s=nan must be a positive"),
    ],
)
def test_batching_that_can_not_be_is_refused(options, message):
    """A size below one and a time that is none are told with their value."""
    with pytest.raises(PlanError, match=message):
        texts().map(shout).plan(**options)


def test_batching_options_reach_the_plan():
    """A chosen size is fixed, and a chosen task time is what is steered to."""
    pipeline = texts().map(shout)

    assert pipeline.plan(batch_size=7).batching.fixed == 7
    assert pipeline.plan(target_task_s=1.5).batching.target_task_s == 1.5


def test_checks_of_source_sink_and_operators_run_while_planning():
    """Each can refuse before a record is read; an operator's refusal names its stage."""

    class NoInput(FromIterable):
        def check(self):
            raise SourceError("no such file")

    class NoOutput(Collect):
        def check(self):
            raise SinkError("no such folder")

    class NoModel(Operator):
        def check(self):
            raise PlanError("no such model")

        def process_batch(self, records):
            return records

    whole = texts().map(shout)

    with pytest.raises(SourceError, match="no such file"):
        whole.source(NoInput([])).plan()
    with pytest.raises(SinkError, match="no such folder"):
        whole.sink(NoOutput()).plan()
    with pytest.raises(PlanError, match="pipeline 'texts', stage 'embed': no such model"):
        whole.stage("embed", NoModel()).plan()


def test_planning_reads_nothing_and_opens_nothing():
    """A plan may look at the first rows, but the output stays as it was."""
    sink = Collect()
    sink.records.append({"text": "of an earlier run"})

    texts().sink(sink).map(shout).plan()

    assert sink.records == [{"text": "of an earlier run"}]


def test_resources_are_checked_against_the_runner():
    """A runner whose workers supply too little refuses the plan."""

    class FakeRunner(LocalRunner):
        def worker_resources(self):
            return [{"LLM": 1}]

    with pytest.raises(PlanError, match=r"asks for LLM=2 .* offers is LLM=1"):
        texts().map(shout, resources={"LLM": 2}).plan(FakeRunner())


def test_an_address_where_nobody_answers_is_told():
    """A scheduler that is not there is named, with how to start one."""
    with pytest.raises(RunError, match="no Dask scheduler answers at 'nonsense://1'"):
        texts().map(shout).run("nonsense://1")


def test_a_run_that_could_never_begin_is_refused():
    """A window without room would read nothing and call it done."""
    with pytest.raises(PlanError, match="max_in_flight=-1 must be at least 1"):
        texts().map(shout).run(max_in_flight=-1)


def test_imports_are_those_of_all_operators():
    """What nodes may import beforehand: each module once, sorted; none for plain functions."""
    pipeline = texts().map(shout).stage("keep", Select(["text"]))

    assert pipeline.imports == ()
    embedding = pipeline.stage("one", Embed()).stage("two", Embed())
    assert embedding.imports == tuple(sorted(set(Embed().imports))) != ()


def test_delayed_batches_carry_the_rows_that_could_not_be_read():
    """A repeated id is in the batch's failures, as it is in a run's failed file."""
    source = FromIterable([{"id": "a"}, {"id": "b"}, {"id": "a"}], id="id")

    (batch,) = Pipeline("twice").source(source).map(dict).sink(Collect()).to_delayed()
    computed = batch.compute(scheduler="sync")

    assert computed.ids == ["a", "b"]
    assert [(failure.id, failure.error) for failure in computed.failures] == [
        ("a", "DuplicateIdError")
    ]
    assert computed.num_read == 3
