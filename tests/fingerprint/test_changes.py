"""What changed about a pipeline, and who accepted it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sage_dask import Stage
from sage_dask.errors import PlanError
from sage_dask.fingerprint.changes import differences, refuse_changes
from sage_dask.fingerprint.description import Description, StageDescription, describe
from sage_dask.operators import Chunk, Generate, Map, Select

URL = "http://gpu-0:8000/v1"


def described(*stages, **facts):
    """Describe a pipeline of stages given as ``(name, operator)``."""
    return replace(describe("rag", [Stage(*stage) for stage in stages]), **facts)


def chain(names):
    """Return a description of stages that are all alike."""
    return Description("rag", "3.11", [StageDescription(name, "sage_dask:Map") for name in names])


def texts(old, new):
    """Return the differences in words."""
    return [change.text for change in differences(old, new)]


def tidy(record):
    """Do one thing."""
    return record


def test_a_setting_is_told_before_and_after():
    """The text names stage, setting and both values."""
    old = described(("generate", Generate(URL, "m", max_tokens=64)))
    new = described(("generate", Generate(URL, "m", max_tokens=128)))

    assert texts(old, new) == ["stage 'generate': max_tokens was 64, is 128"]
    assert [(each.stage, each.what) for each in differences(old, new)] == [
        ("generate", "max_tokens")
    ]


def test_stages_come_and_go():
    """A stage that is gone and one that is new are told by name, and others not at all."""
    old = described(("clean", Chunk()), ("cut", Select(["a"])))
    new = described(("cut", Select(["a"])), ("rerank", Chunk()))

    assert texts(old, new) == ["stage 'clean' is gone", "stage 'rerank' is new"]


def test_another_operator_is_one_change():
    """Settings of two different operators are not compared."""
    old, new = described(("s", Chunk())), described(("s", Select(["a"])))

    assert texts(old, new) == ["stage 's': the operator was Chunk, is Select"]


def test_stages_that_change_places_are_told_with_their_neighbours():
    """Of two that swap, one moved."""
    [text] = texts(chain("abcd"), chain("acbd"))

    assert text == "stages change places: 'c' stood in b -> c -> d, stands in a -> c -> b"


def test_the_name_of_the_pipeline_is_no_change():
    """A run goes on under whatever name, as its records are the same."""
    assert differences(chain("ab"), replace(chain("ab"), pipeline="other")) == []


def test_code_of_another_python_is_one_change_per_stage():
    """Instructions of two versions are not compared; all else is."""
    stages = [("a", Map(tidy)), ("b", Map(lambda record: record)), ("c", Chunk(words=50))]
    old = described(*stages, python="3.9")
    new = described(*stages[:2], ("c", Chunk(words=60)))
    rewritten = {**old.stages[0].settings}
    rewritten["function"] = {**rewritten["function"], "code": "0" * 16, "made_with": "1" * 16}
    old = replace(old, stages=[replace(old.stages[0], settings=rewritten), *old.stages[1:]])

    changes = differences(old, new)

    assert [(each.stage, each.what) for each in changes] == [
        ("a", "python"),
        ("b", "python"),
        ("c", "words"),
    ]
    assert changes[0].text.startswith("stage 'a': the run began with Python 3.9 and this is 3.")


def test_a_setting_that_another_release_does_not_know_is_no_change():
    """What is at its default is left out of account; what was chosen is not."""
    old = described(("s", Chunk()))
    stage = old.stages[0]
    known = {name: value for name, value in stage.settings.items() if name != "overlap"}
    older = replace(old, stages=[replace(stage, settings=known)])
    chosen = described(("s", Chunk(overlap=7)))

    assert texts(older, old) == texts(old, older) == []
    assert texts(older, chosen) == ["stage 's': overlap was not given, is 7"]
    assert texts(chosen, older) == ["stage 's': overlap was 7, is not given"]


@given(st.permutations("abcdefg"), st.sets(st.sampled_from("abcdefg")))
def test_an_order_is_changed_by_those_that_moved(order, gone):
    """Without the stages that are told, old and new are the same chain; naming them accepts it."""
    old, new = list("abcdefg"), [name for name in order if name not in gone]

    told = {change.stage for change in differences(chain(old), chain(new))}

    assert [name for name in old if name not in told] == [name for name in new if name not in told]
    assert gone <= told
    refuse_changes(chain(old), chain(new), accepted=told)


@given(st.lists(st.sampled_from("abcdef"), unique=True))
def test_a_chain_is_no_different_from_itself(names):
    """No stages, or any, have no differences from the same ones."""
    assert differences(chain(names), chain(names)) == []
    refuse_changes(chain(names), chain(names))


def test_changes_that_are_not_accepted_are_all_told():
    """The message lists each of them and what to write to accept them."""
    old = described(("cut", Chunk(words=50, overlap=5)), ("pick", Select(["a"])), ("x", Chunk()))
    new = described(("cut", Chunk(words=60, overlap=6)), ("pick", Select(["b"])), ("x", Chunk()))

    with pytest.raises(PlanError) as refused:
        refuse_changes(old, new, accepted=["pick"])

    assert str(refused.value) == (
        "pipeline 'rag' is not as it was when the run began, 2 changes:\n"
        "  stage 'cut': words was 50, is 60\n"
        "  stage 'cut': overlap was 5, is 6\n"
        "resume with --accept-changes pick --accept-changes cut to keep what is done and use the "
        "new pipeline for the rest, or give another run_dir"
    )


def test_changes_are_accepted_stage_by_stage():
    """Whatever became of a stage is accepted by its name: new, gone or set otherwise."""
    old = described(("gone", Chunk()), ("cut", Chunk(words=50)))
    new = described(("cut", Chunk(words=60)), ("new", Chunk()))

    refuse_changes(old, new, accepted={"gone", "cut", "new"})
    for name in ("gone", "cut", "new"):
        with pytest.raises(PlanError, match=f"stage '{name}'"):
            refuse_changes(old, new, accepted={"gone", "cut", "new"} - {name})


def test_a_name_that_is_no_stage_is_refused():
    """A slip of the pen accepts nothing, even where nothing changed."""
    with pytest.raises(PlanError, match=r"no such stage.*did you mean 'generate'"):
        refuse_changes(chain(["generate"]), chain(["generate"]), accepted=["genrate"])
