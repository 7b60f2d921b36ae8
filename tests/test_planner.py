"""What planning refuses, and how it groups stages."""

from __future__ import annotations

import pytest

from sage_dask.errors import PlanError
from sage_dask.operators.basic import Filter, Map, Select
from sage_dask.operators.sinks import Collect
from sage_dask.operators.sources import FromIterable
from sage_dask.planner import make_plan
from sage_dask.stage import FieldSet, Operator, Stage

QUESTIONS = FieldSet(frozenset({"id", "question"}), is_open=False)


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


def test_an_impossible_resource_is_refused():
    """A need above every worker's supply would wait for ever, and is told beside the supply."""
    stage = Stage("embed", Embedder(), resources={"LLM": 4})

    with pytest.raises(PlanError, match=r"asks for LLM=4 .* one worker offers is LLM=2"):
        plan(stage, worker_resources=[{"LLM": 2}, {"LLM": 1, "GPU": 8}])


def test_needs_must_be_met_by_one_worker_together():
    """Two resources on two different workers do not make one that can run the task."""
    stage = Stage("embed", Embedder(), resources={"LLM": 1, "GPU": 1})

    with pytest.raises(PlanError, match="would wait for ever"):
        plan(stage, worker_resources=[{"LLM": 1}, {"GPU": 1}])


def test_a_misspelt_resource_is_recognised():
    """A resource nobody offers is compared with those that somebody does."""
    stage = Stage("embed", Embedder(), resources={"LML": 1})

    with pytest.raises(PlanError, match="did you mean 'LLM'"):
        plan(stage, worker_resources=[{"LLM": 2}])


def test_a_name_in_the_wrong_case_is_recognised():
    """Dask lower-cases resources that come from its settings, which is hard to see."""
    stage = Stage("embed", Embedder(), resources={"LLM": 1})

    with pytest.raises(PlanError, match="did you mean 'llm'"):
        plan(stage, worker_resources=[{"llm": 2}])


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
    )

    text = made.explain()

    for part in (
        "fields id, question",
        "embed  Embedder  [batch_size=8]",
        "reads embedding; writes passages",
        "retrieve (LLM=2)",
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


def test_an_unknown_form_of_explanation_is_refused():
    """Only text and Mermaid are known."""
    with pytest.raises(PlanError, match="did you mean 'mermaid'"):
        plan(Stage("f", Map(dict))).explain("mermade")
