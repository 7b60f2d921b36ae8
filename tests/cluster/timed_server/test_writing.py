"""Answers: how long they are, why they end, and when they repeat themselves."""

from __future__ import annotations

import pytest

from sage_dask.cluster.timed_server import TimedOptions
from sage_dask.cluster.timed_server.asking import Ask, Prompt
from sage_dask.cluster.timed_server.text import num_tokens
from sage_dask.cluster.timed_server.writing import logprobs_of, write_answer

PROMPT = Prompt("say something", 4, last="say something")


def write(*, number=1, index=0, options=None, **fields):
    ask = Ask(**{"is_chat": True, "model": "m", "prompts": [PROMPT], "max_tokens": 10, **fields})
    return write_answer(ask, PROMPT, TimedOptions(**(options or {})), index=index, number=number)


@pytest.mark.parametrize(
    ("fields", "tokens", "reason"),
    [
        ({}, 10, "length"),
        ({"options": {"answer_tokens": 4}}, 4, "stop"),
        ({"options": {"answer_tokens": 40}}, 10, "length"),
        ({"options": {"answer_tokens": 4}, "ignores_end": True}, 10, "length"),
        ({"options": {"echo": True}}, 4, "stop"),
        ({"options": {"echo": True}, "max_tokens": 2}, 2, "length"),
        ({"schema": {"type": "boolean"}}, 1, "stop"),
        ({"schema": {"enum": ["a long word"]}, "max_tokens": 2}, 2, "length"),
    ],
)
def test_an_answer_is_as_long_as_asked_or_as_it_is(fields, tokens, reason):
    """Tokens are those of the text, and the reason tells whether it was cut."""
    answer = write(**fields)

    assert (answer.tokens, answer.finish_reason) == (tokens, reason)
    assert num_tokens(answer.text) == tokens


def test_a_stop_string_ends_it():
    """The string is not in the text, but in the reason, and its tokens were computed."""
    answer = write(options={"echo": True}, stop=["thing", "some"])

    assert (answer.text, answer.finish_reason, answer.stop_reason) == ("say ", "stop", "some")
    assert answer.tokens == 2


def test_greedy_and_seeded_answers_repeat_themselves():
    """Sampling does not."""
    assert write(temperature=0.0, number=1) == write(temperature=0.0, number=2)
    assert write(seed=1, number=1) == write(seed=1, number=2) != write(seed=2, number=1)
    assert write(number=1) != write(number=2)
    assert write(seed=1, index=0) != write(seed=1, index=1)


def test_probabilities_come_in_the_shape_of_the_api():
    """One for each token, with alternatives."""
    ask = Ask(is_chat=True, model="m", prompts=[PROMPT], max_tokens=3, num_logprobs=2)
    answer = write(max_tokens=3)

    (first, *_) = chat = logprobs_of(answer, 0, 3, ask)["content"]
    assert "".join(each["token"] for each in chat) == answer.text
    assert first["top_logprobs"][0]["token"] == first["token"]
    assert len(first["top_logprobs"]) == 2
    assert all(each["logprob"] < 0 for each in chat)

    plain = Ask(is_chat=False, model="m", prompts=[PROMPT], max_tokens=3, num_logprobs=1)
    shown = logprobs_of(answer, 1, 3, plain)
    assert shown["text_offset"] == [4, 8]
    assert len(shown["tokens"]) == len(shown["token_logprobs"]) == len(shown["top_logprobs"]) == 2
