"""What planning refuses, and how it groups stages."""

from __future__ import annotations

from typing import ClassVar

import pytest

from sage_dask.errors import PlanError
from sage_dask.operators.basic import Filter, Map, Select
from sage_dask.operators.sinks import Collect
from sage_dask.operators.sources import FromIterable
from sage_dask.plan import Batching
from sage_dask.planner import WAITING_BATCH, make_plan
from sage_dask.schedule import Scheduling
from sage_dask.stage import FieldSet, Operator, Stage

QUESTIONS = FieldSet(frozenset({"id", "question"}), is_open=False)
OPEN = FieldSet(frozenset(), is_open=True)


class Embedder(Operator):
    """Reads the question and writes its embedding."""

    reads = ("question",)
    writes = ("embedding",)

    def process_batch(self, records):
        return [{**record, "embedding": [0.0]} for record in records]


class Searcher(Operator):
    """Reads an embedding and writes passages."""

    reads = ("embedding",)
    writes = ("passages",)

    def process_batch(self, records):
        return list(records)


class Caller(Operator):
    """Waits for a model."""

    reads = ("passages",)
    writes = ("answer",)

    async def process_batch(self, records):
        return list(records)


def plan(*stages, fields=QUESTIONS, **options):
    """Plan a chain of stages over questions."""
    return make_plan("rag", FromIterable([]), stages, Collect(), source_fields=fields, **options)


def test_neighbours_share_a_task():
    """Stages of equal needs run as one task, which the plan gives a reason for."""
    made = plan(Stage("embed", Embedder()), Stage("retrieve", Searcher()))

    assert [task.name for task in made.stages] == ["embed+retrieve"]
    assert any("'embed+retrieve' is one task" in note for note in made.notes)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"resources": {"LLM": 1}}, "different resources"),
        ({"gates": {"llm": 1}}, "different gates"),
        ({"priority": 3}, "priorities differ"),
        ({"fuse": False}, "fuse=False"),
    ],
)
def test_stages_of_different_needs_run_apart(options, reason):
    """A difference that a shared task would hide splits it, with the reason in the notes."""
    made = plan(Stage("embed", Embedder()), Stage("retrieve", Searcher(), **options))

    assert [task.name for task in made.stages] == ["embed", "retrieve"]
    assert made.stages[1].inputs == ("embed",)
    assert any(reason in note for note in made.notes)


def test_stages_that_hold_the_same_gates_share_a_task():
    """The task holds the slots once, for as long as both of them run."""
    gates = {"llm": 2, "disk": 1}

    made = plan(
        Stage("embed", Embedder(), gates=gates),
        Stage("retrieve", Searcher(), gates=dict(reversed(gates.items()))),
    )

    assert [(task.name, task.gates) for task in made.stages] == [("embed+retrieve", gates)]


def test_a_waiting_stage_runs_apart_from_computing_ones():
    """A stage that waits for a model would hold a CPU thread of its neighbours."""
    made = plan(
        Stage("embed", Embedder()), Stage("retrieve", Searcher()), Stage("generate", Caller())
    )

    assert [task.name for task in made.stages] == ["embed+retrieve", "generate"]


def test_a_missing_field_is_refused_with_the_closest_name():
    """A stage that reads what nobody writes is told who gives what, and what was meant."""
    fields = FieldSet(frozenset({"id", "qestion"}), is_open=False)

    with pytest.raises(
        PlanError, match=r"stage 'embed': needs field 'question'.*'qestion'"
    ) as told:
        plan(Stage("embed", Embedder()), fields=fields)

    assert "did you mean 'qestion'?" in str(told.value)


def test_a_stage_before_its_input_is_refused():
    """Retrieval before embedding lacks the embedding, whatever comes later."""
    with pytest.raises(PlanError, match="stage 'retrieve': needs field 'embedding'"):
        plan(Stage("retrieve", Searcher()), Stage("embed", Embedder()))


def test_a_removed_field_is_missed():
    """A field that a stage dropped is not there for the next one."""
    with pytest.raises(PlanError, match="stage 'embed': needs field 'question', but 'select'"):
        plan(Stage("select", Select(["id"])), Stage("embed", Embedder()))


def test_unknown_fields_are_given_the_benefit_of_the_doubt():
    """After a function that declares nothing, any field may be there."""
    made = plan(Stage("f", Map(dict)), Stage("retrieve", Searcher()))

    assert made.fields["f"].is_open


def test_fields_are_followed_along_the_chain():
    """The plan says what records carry after each stage; a filter changes nothing."""
    made = plan(Stage("keep", Filter(bool)), Stage("embed", Embedder()))

    assert made.fields["keep"] == QUESTIONS
    assert made.fields["embed"].names == {"id", "question", "embedding"}


@pytest.mark.parametrize(
    ("needs", "options", "message"),
    [
        (
            {"resources": {"LLM": 4}},
            {"worker_resources": [{"LLM": 2}]},
            "one worker offers is LLM=2",
        ),
        ({"gates": {"llm": 4}}, {"gates": {"llm": 2}}, "its limit is 2"),
        ({}, {"scheduling": Scheduling(quota={"threads": 0.5})}, "the job's quota is threads=0.5"),
        ({"gates": {"llm": 1}}, {"scheduling": Scheduling("dask")}, "policy 'dask'"),
    ],
    ids=["resources", "gates", "quota", "stock"],
)
def test_what_could_never_start_is_refused(needs, options, message):
    """Needs are compared with workers, gates, quotas and the kind of placement."""
    with pytest.raises(PlanError, match=f"pipeline 'rag': stage 'embed' .*{message}"):
        plan(Stage("embed", Embedder(), **needs), **options)


def test_without_a_cluster_no_need_is_too_large():
    """Neither resources nor gates are compared with anything until something is known of it."""
    stage = Stage("embed", Embedder(), resources={"LLM": 99}, gates={"llm": 99})

    made = plan(stage, worker_resources=None, gates=None)

    assert (made.stages[0].resources, made.stages[0].gates) == ({"LLM": 99}, {"llm": 99})


def test_duplicate_stage_names_are_refused():
    """Two stages of one name could not be told apart in an error."""
    with pytest.raises(PlanError, match="2 stages are called 'embed'"):
        plan(Stage("embed", Embedder()), Stage("embed", Embedder()))


def test_an_empty_pipeline_is_refused():
    """A pipeline without a stage says how to add one."""
    with pytest.raises(PlanError, match=r"add one with \.stage"):
        plan()


@pytest.mark.parametrize("name", ["", "2nd", "a-b", "a b", "a+b", "read"])
def test_names_that_can_not_be_keys_are_refused(name):
    """A stage name must survive in Dask keys and must not be the source's."""
    with pytest.raises(PlanError):
        plan(Stage(name, Embedder()))


@pytest.mark.parametrize(
    "options",
    [{"batch_size": 0}, {"attempts": 0}, {"resources": {"LLM": 0}}, {"resources": {"LLM": -1}}],
)
def test_senseless_options_are_refused(options):
    """Zero records, zero tries and nothing of a resource are no options."""
    with pytest.raises(PlanError, match="stage 'embed'"):
        Stage("embed", Embedder(), **options)


def test_an_operator_class_instead_of_an_instance_is_refused():
    """Forgetting the parentheses is told as such."""
    with pytest.raises(PlanError, match=r"pass an instance: Embedder\(\.\.\.\)"):
        Stage("embed", Embedder)


def test_the_text_shows_what_will_run():
    """The explanation names tasks, stages, parameters, fields, batches and reasons."""
    made = plan(
        Stage("embed", Embedder(), batch_size=8),
        Stage("retrieve", Searcher(), resources={"LLM": 2}),
        Stage("generate", Caller(), resources={"LLM": 1}, gates={"llm": 1, "disk": 2}, priority=3),
    )

    text = made.explain()

    for part in (
        "fields id, question",
        "embed  Embedder  [batch_size=8]",
        "reads embedding; writes passages",
        "retrieve (LLM=2)",
        "generate (LLM=1, gate llm=1, gate disk=2, priority 3)",
        "steered to 200 ms per task",
        "because  'retrieve' runs apart from 'embed': they hold different resources",
    ):
        assert part in text


def test_the_picture_names_every_stage_once_in_order():
    """The Mermaid chart leads from the source through all stages to the sink."""
    made = plan(Stage("embed", Embedder()), Stage("generate", Caller()), fields=FieldSet())

    chart = made.explain("mermaid")

    assert chart.startswith("flowchart LR")
    assert chart.endswith("read --> embed_ --> generate_ --> write")


def test_the_picture_shows_what_tasks_hold():
    """Gates stand in the Mermaid chart where resources do."""
    made = plan(Stage("embed", Embedder(), resources={"GPU": 1}, gates={"llm": 2}))

    assert '["embed (GPU=1, gate llm=2)"]' in made.explain("mermaid")


def test_an_unknown_form_of_explanation_is_refused():
    """Only text and Mermaid are known."""
    with pytest.raises(PlanError, match="did you mean 'mermaid'"):
        plan(Stage("f", Map(dict))).explain("mermade")


URL = "http://gpu-0:8000/v1"


class Asker(Caller):
    """Waits for a model server."""

    endpoints: ClassVar = (URL,)


def batching_of(*stages, **chosen):
    """Return what a plan of these stages says of batches."""
    return plan(*stages, fields=OPEN, batching=Batching(**chosen)).batching


def test_batches_that_only_wait_are_small_from_the_start():
    """Nothing is measured that could let them grow, and each goes on with its slowest record."""
    found = batching_of(Stage("generate", Asker()))

    assert (found.first, found.largest) == (WAITING_BATCH, WAITING_BATCH)


def test_batches_that_compute_and_wait_begin_as_others_do():
    """The stage that computes finds its own size, up to what is good for waiting."""
    found = batching_of(Stage("retrieve", Searcher()), Stage("generate", Asker()), first=2)

    assert (found.first, found.largest) == (2, WAITING_BATCH)


def test_batches_that_compute_are_as_ever():
    """Nothing that waits, nothing to heed."""
    assert batching_of(Stage("retrieve", Searcher()), first=2, largest=900).largest == 900


@pytest.mark.parametrize("chosen", [{"fixed": 500}, {"largest": 8}])
def test_a_size_that_the_user_chose_stays(chosen):
    """A fixed size is not touched, and a limit is never raised."""
    found = batching_of(Stage("generate", Asker()), **chosen)

    assert found.fixed == chosen.get("fixed")
    assert found.largest == chosen.get("largest", Batching().largest)


def test_stages_that_ask_different_servers_run_apart():
    """Each task's requests are bounded by its own servers, and the plan says why."""

    class Elsewhere(Asker):
        endpoints: ClassVar = ("http://gpu-1:8000/v1",)

    made = plan(Stage("a", Asker()), Stage("b", Asker()), Stage("c", Elsewhere()), fields=OPEN)

    assert [task.name for task in made.stages] == ["a+b", "c"]
    assert any("different servers" in note for note in made.notes)


def test_what_waits_can_not_be_isolated():
    """A subprocess has no loop for it, and a deadline cancels it without one."""
    with pytest.raises(
        PlanError, match=r"pipeline 'rag', stage 'generate': Caller waits .* leave it out"
    ):
        plan(Stage("generate", Caller(), isolate=True), fields=OPEN)


def test_what_sends_requests_to_model_servers_can_not_be_isolated():
    """Its slots are those of its worker process, whether it is written with async or not."""

    class Blocking(Searcher):
        endpoints = ("http://gpu-0:8000",)

    with pytest.raises(
        PlanError, match=r"stage 's': Blocking sends requests .* leave isolate=True"
    ):
        plan(Stage("s", Blocking(), isolate=True), fields=OPEN)


def test_an_isolated_stage_shares_a_task_with_its_neighbours():
    """Its subprocess is beside the task, so records need not travel to another one."""
    made = plan(Stage("embed", Embedder(), isolate=True), Stage("retrieve", Searcher()))

    assert [task.name for task in made.stages] == ["embed+retrieve"]
