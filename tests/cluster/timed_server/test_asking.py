"""Requests for text: what is read from a body, and what is refused in vLLM's words."""

from __future__ import annotations

import pytest

from sage_dask.cluster.timed_server import TimedOptions
from sage_dask.cluster.timed_server.asking import read_ask, read_text
from sage_dask.cluster.timed_server.refusal import RefusalError

OPTIONS = TimedOptions(model="m", max_model_len=1000)


def chat(**fields):
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], **fields}
    return read_ask(body, OPTIONS, is_chat=True)


def plain(**fields):
    return read_ask({"model": "m", "prompt": "hi", **fields}, OPTIONS, is_chat=False)


def test_a_chat_is_one_prompt_of_all_its_turns():
    """Roles are part of it, as with any chat template; the last message is kept apart."""
    turns = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "part "}, {"text": "two"}]},
    ]

    (prompt,) = chat(messages=turns).prompts

    assert prompt.text == "<system>\nBe brief.\n<user>\npart two\n<assistant>\n"
    assert prompt.last == "part two"
    assert prompt.tokens == 12


@pytest.mark.parametrize(
    ("prompt", "tokens"),
    [("abcdefgh", [2]), (["abcd", "abcdefgh"], [1, 2]), ([5, 6, 7], [3]), ([[5], [6, 7]], [1, 2])],
)
def test_a_completion_has_texts_or_tokens(prompt, tokens):
    """One of either, or a list."""
    assert [each.tokens for each in plain(prompt=prompt).prompts] == tokens


def test_tokens_and_stops_are_read():
    """The newer name of the limit counts as well, and a single stop is a list of one."""
    ask = chat(max_completion_tokens=7, stop="END", seed=3, n=2, stream=True)

    assert (ask.max_tokens, ask.stop, ask.seed, ask.n) == (7, ["END"], 3, 2)
    assert ask.is_streamed


def test_an_answer_ends_with_the_context():
    """What the prompt leaves is the most there is."""
    assert plain(prompt="x" * 3900, max_tokens=500).max_tokens == 25


@pytest.mark.parametrize(
    ("fields", "num"),
    [({}, None), ({"logprobs": True}, 0), ({"logprobs": True, "top_logprobs": 3}, 3)],
)
def test_probabilities_of_a_chat(fields, num):
    """A flag, and how many alternatives."""
    assert chat(**fields).num_logprobs == num


@pytest.mark.parametrize(
    ("fields", "schema"),
    [
        ({"response_format": {"type": "text"}}, None),
        ({"response_format": {"type": "json_object"}}, {"type": "object"}),
        ({"response_format": {"type": "json_schema", "json_schema": {"schema": {"const": 1}}}},
         {"const": 1}),
        ({"structured_outputs": {"json": {"const": 2}}}, {"const": 2}),
    ],
)  # fmt: skip
def test_a_schema_can_be_asked_for_in_several_ways(fields, schema):
    """OpenAI's, and vLLM's own."""
    assert chat(**fields).schema == schema


@pytest.mark.parametrize(
    ("ask", "fields", "status", "param", "message"),
    [
        (chat, {"model": "x"}, 404, "model", "The model `x` does not exist"),
        (chat, {"messages": None}, 400, "body.messages", "valid list"),
        (chat, {"messages": "hi"}, 400, "body.messages", "valid list"),
        (chat, {"messages": []}, 400, None, "empty conversation"),
        (plain, {"prompt": ""}, 400, "prompt", "must be provided and non-empty"),
        (plain, {"prompt": "x" * 4000}, 400, "input_tokens", "at least 1000 input tokens"),
        (plain, {"max_tokens": 0}, 400, "max_tokens", "must be at least 1, got 0"),
        (plain, {"max_tokens": 9999}, 400, "max_tokens", "cannot be greater than"),
        (plain, {"max_tokens": "x"}, 400, "body.max_tokens", "valid integer"),
        (plain, {"max_tokens": 1.5}, 400, "body.max_tokens", "valid integer"),
        (plain, {"temperature": -1}, 400, "temperature", "non-negative"),
        (plain, {"n": 0}, 400, None, "n must be at least 1, got 0"),
        (plain, {"n": 2, "temperature": 0}, 400, None, "greedy sampling"),
        (chat, {"top_logprobs": 2}, 400, "top_logprobs", "must be set to true"),
        (chat, {"response_format": {"type": "json_schema"}}, 400, "response_format", "provided"),
    ],
)
def test_what_is_wrong_is_refused_as_vllm_does(ask, fields, status, param, message):
    """Status, parameter and words."""
    with pytest.raises(RefusalError, match=message) as told:
        ask(**fields)

    error = told.value.body["error"]
    assert (told.value.status, error["code"], error["param"]) == (status, status, param)


@pytest.mark.parametrize("body", [[], "text", None])
def test_a_body_that_is_no_object_is_refused(body):
    """JSON alone is not enough."""
    with pytest.raises(RefusalError, match="valid dictionary"):
        read_ask(body, OPTIONS, is_chat=True)


def test_a_text_is_read_from_either_kind_of_body():
    """Without judging whether it could be answered."""
    assert read_text({"prompt": "x" * 9000}, OPTIONS) == "x" * 9000
    assert "hi" in read_text({"messages": [{"role": "user", "content": "hi"}]}, OPTIONS)
