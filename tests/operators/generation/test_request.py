"""Requests from records, as pure functions."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sage_dask.operators.generation.request import (
    RequestForm,
    content_seed,
    most_new_tokens,
    num_choices,
    prefix_of,
    prompt_tokens,
)

USER = {"role": "user", "content": "Why?"}


def form(**options):
    return RequestForm(**{"api": "chat", "model": "m", "prompt": "prompt", **options})


def test_a_text_becomes_one_user_message():
    """Fixed parameters, model and the prompt make the body."""
    body = form(fixed={"max_tokens": 9}).body({"prompt": "Why?", "other": 1})

    assert body == {"max_tokens": 9, "model": "m", "messages": [USER]}


def test_a_chat_goes_as_it_is():
    """A list of messages may have any number of turns and any further keys."""
    chat = [USER, {"role": "assistant", "content": None, "tool_calls": []}, USER]

    assert form().body({"prompt": chat})["messages"] == chat


def test_plain_completions_take_the_text_itself():
    """Without a chat template the prompt is a text."""
    body = form(api="completions").body({"prompt": "Once"})

    assert body == {"model": "m", "prompt": "Once"}
    assert form(api="completions").path == "completions"


@pytest.mark.parametrize("role", ["system", "developer"])
def test_the_system_prompt_comes_first_unless_a_chat_has_its_own(role):
    """Two system messages are what many chat templates refuse."""
    asked = form(system="Be {brief}.")
    own = [{"role": role, "content": "Be long."}, USER]

    assert asked.body({"prompt": "Why?"})["messages"] == [
        {"role": "system", "content": "Be {brief}."},
        USER,
    ]
    assert asked.body({"prompt": [USER]})["messages"][0]["content"] == "Be {brief}."
    assert asked.body({"prompt": own})["messages"] == own


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"question": "Why?"}, r"no field 'prompt' \(it has question\)"),
        ({"prompt": None}, "found nothing"),
        ({"prompt": " "}, "found an empty text"),
        ({"prompt": 7}, "found int"),
        ({"prompt": []}, "found an empty list"),
        ({"prompt": ["Why?"]}, "a list that is no chat"),
        ({"prompt": [{"content": "Why?"}]}, "a list that is no chat"),
        ({"prompt": b"Why?"}, "found bytes"),
    ],
)
def test_what_can_not_be_asked_is_told_by_its_field(record, message):
    """The message says what was found and what is wanted."""
    with pytest.raises(ValueError, match=message):
        form().body(record)


def test_plain_completions_refuse_a_chat():
    """There is no template that would make one text of it."""
    with pytest.raises(ValueError, match="must hold a text, found a list"):
        form(api="completions").body({"prompt": [USER]})


def test_a_record_s_own_parameters_win_but_for_model_format_and_transport():
    """A batch request keeps what it asked for; how and by whom it is answered is the stage's."""
    asked = form(
        parameters="parameters",
        fixed={"max_tokens": 9, "temperature": 0.7},
        response_format={"type": "json_schema"},
    )
    own = {
        "model": "theirs", "temperature": 0.0, "stream": True, "stream_options": {},
        "response_format": {"type": "text"}, "messages": [], "user": "u",
    }  # fmt: skip

    body = asked.body({"prompt": "Why?", "parameters": own})

    assert body == {
        "max_tokens": 9, "temperature": 0.0, "user": "u", "model": "m",
        "response_format": {"type": "json_schema"}, "messages": [USER],
    }  # fmt: skip


def test_the_newer_name_of_the_token_limit_replaces_ours():
    """A record that limits its answer by the one name is not limited by the other as well."""
    asked = form(parameters="parameters", fixed={"max_tokens": 9})

    body = asked.body({"prompt": "Why?", "parameters": {"max_completion_tokens": 3}})

    assert "max_tokens" not in body
    assert most_new_tokens(body) == 3


def test_the_model_of_a_record_counts_where_the_stage_names_none():
    """With ``model=None`` each record says who shall answer it, or fails."""
    asked = form(model=None, parameters="parameters")

    assert asked.body({"prompt": "Why?", "parameters": {"model": "theirs"}})["model"] == "theirs"
    with pytest.raises(ValueError, match="names none"):
        asked.body({"prompt": "Why?", "parameters": {}})


@pytest.mark.parametrize("own", [None, "max_tokens", [1], {1: 2}])
def test_parameters_that_are_none_fail_the_record(own):
    """What is no mapping of names can not be merged into a request."""
    with pytest.raises(ValueError, match="'parameters' must hold a mapping"):
        form(parameters="parameters").body({"prompt": "Why?", "parameters": own})


def test_seeds_follow_the_question_and_the_record_has_the_last_word():
    """A number is the same for all; "record" differs by what is asked, and never by chance."""
    by_record = form(seed="record", parameters="own")

    first = by_record.body({"prompt": "a", "own": {}, "id": 1})["seed"]
    again = by_record.body({"prompt": "a", "own": {}, "id": 2})["seed"]
    other = by_record.body({"prompt": "b", "own": {}})["seed"]

    assert first == again != other
    assert form(seed=5).body({"prompt": "a"})["seed"] == 5
    assert by_record.body({"prompt": "a", "own": {"seed": 7}})["seed"] == 7
    assert "seed" not in form().body({"prompt": "a"})


def test_the_derived_seed_is_the_same_everywhere():
    """It is pinned: another value would make old runs irreproducible."""
    assert content_seed([USER]) == content_seed([dict(reversed(USER.items()))]) == 31_826_611


def test_priorities_are_sent_the_other_way_round():
    """Higher comes first here, lower comes first in vLLM; 0 is left out, which all servers take."""
    assert form(priority=3).body({"prompt": "a"})["priority"] == -3
    assert form(priority="urgency").body({"prompt": "a", "urgency": -2})["priority"] == 2
    assert "priority" not in form(priority="urgency").body({"prompt": "a", "urgency": 0})
    with pytest.raises(ValueError, match="'urgency' must hold a whole number"):
        form(priority="urgency").body({"prompt": "a", "urgency": "high"})


def test_estimates_cover_all_messages_and_choices():
    """A quarter of all characters goes in, and each choice may have its limit out."""
    parts = [{"type": "text", "text": "x" * 40}, {"type": "image_url", "image_url": {"url": "u"}}]
    body = {"messages": [{"role": "user", "content": parts}], "max_tokens": 10, "n": 3}

    assert prompt_tokens(body) == -(-len("user: " + "x" * 40 + " ") // 4)
    assert most_new_tokens(body) == 30
    assert num_choices({}) == 1
    assert most_new_tokens({"messages": []}) is None


def test_a_prefix_is_shared_by_what_begins_alike():
    """Prompts of one template go together; those that differ early do not."""
    template = "Answer from this context. " * 30

    one, two, other = (
        prefix_of(form(system=system).body({"prompt": prompt}))
        for system, prompt in [(template, "a"), (template, "b"), ("Other. " + template, "a")]
    )

    assert one == two != other


@given(st.text(min_size=1).filter(str.strip), st.text())
def test_a_prompt_arrives_letter_by_letter(prompt, system):
    """Whatever a row or a system prompt holds, nothing of it is looked at or replaced."""
    body = form(system=system).body({"prompt": prompt, "x": "{prompt}"})

    assert json.loads(json.dumps(body))["messages"] == [
        {"role": "system", "content": system},
        {"role": "user", "content": prompt},
    ]
    assert len(prefix_of(body)) == 16
    assert 0 <= content_seed(body["messages"]) < 2**31
