"""Answers of servers, read."""

from __future__ import annotations

import pytest

from sage_dask.completion import CompletionError
from sage_dask.operators.generation.answer import Choice, Reply


def chat(*texts, **more):
    choices = [
        {"index": place, "message": {"content": text}, "finish_reason": "stop"}
        for place, text in enumerate(texts)
    ]
    return {"model": "served", "choices": choices, **more}


def test_a_chat_answer_is_read():
    """Text, finish, model and usage come out as they are."""
    reply = Reply.read(chat("Hi", usage={"prompt_tokens": 2}), {"model": "asked"})

    assert reply.choices == (Choice("Hi", "stop"),)
    assert reply.meta() == {
        "model": "served", "usage": {"prompt_tokens": 2}, "finish_reason": "stop"
    }  # fmt: skip


def test_a_plain_completion_is_read():
    """Plain completions have their text in the choice itself; a nameless server keeps our name."""
    answer = {"choices": [{"text": "upon a time", "finish_reason": "length"}]}

    reply = Reply.read(answer, {"model": "asked"})

    assert reply.choices == (Choice("upon a time", "length"),)
    assert (reply.model, reply.usage) == ("asked", {})


def test_several_choices_come_in_the_order_of_their_index():
    """A server may finish them in any order."""
    answer = chat("a", "b", "c")
    answer["choices"].reverse()

    reply = Reply.read(answer, {"n": 3})

    assert [choice.text for choice in reply.choices] == ["a", "b", "c"]
    assert reply.meta()["finish_reason"] == ["stop"] * 3


def test_fewer_choices_than_asked_for_are_an_error():
    """A server that ignores n must not pass for one that answered."""
    with pytest.raises(CompletionError, match="1 answers where n=3"):
        Reply.read(chat("a"), {"n": 3})


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ({"error": {"message": "hunter2"}}, "no choices .*'error'"),
        ({"choices": []}, "no choices"),
        ({"choices": "hunter2"}, "junk"),
        ({"choices": [None]}, "a choice that is NoneType"),
        ({"choices": [{"message": {"content": None}}]}, "a choice of nothing"),
        ({"choices": [{"message": {"content": None, "tool_calls": [1]}}]}, "'tool_calls'"),
        ({"choices": [{"message": {"content": ["hunter2"]}}]}, "'content'"),
        ({"choices": [{"index": "x", "text": "a"}, {"index": 1, "text": "a"}]}, "'text'"),
        (["hunter2"], "list where an object"),
        (None, "NoneType where an object"),
    ],
)
def test_an_error_never_passes_for_an_answer(answer, found):
    """A 200 without text is an error that tells the form of what came, and none of its words."""
    with pytest.raises(CompletionError, match=f"without text.*{found}") as caught:
        Reply.read(answer, {})

    assert "hunter2" not in str(caught.value)


def test_an_empty_text_is_an_answer():
    """A model may have nothing to say."""
    assert Reply.read(chat(""), {}).choices[0].text == ""


def test_log_probabilities_have_one_form():
    """Both APIs' forms come out alike, without the bytes."""
    token = {"token": "a", "logprob": -0.5, "bytes": [97]}
    in_chat = chat("a")
    in_chat["choices"][0]["logprobs"] = {"content": [{**token, "top_logprobs": [token]}]}
    plain = {
        "choices": [
            {
                "text": "a",
                "logprobs": {
                    "tokens": ["a"], "token_logprobs": [-0.5], "top_logprobs": [{"a": -0.5}]
                },
            }
        ]
    }  # fmt: skip
    expected = [{"token": "a", "logprob": -0.5, "top_logprobs": [{"token": "a", "logprob": -0.5}]}]

    assert Reply.read(in_chat, {}).choices[0].logprobs == expected
    assert Reply.read(plain, {"model": "m"}).choices[0].logprobs == expected
    plain["choices"][0]["logprobs"]["top_logprobs"] = None
    assert Reply.read(plain, {"model": "m"}).choices[0].logprobs == [
        {"token": "a", "logprob": -0.5}
    ]


def test_the_server_s_own_times_are_told_in_seconds():
    """Per-request metrics of vLLM become seconds; what it could not measure is left out."""
    metrics = {
        "queue_time_ms": 1500.0, "time_to_first_token_ms": 250.0, "generation_time_ms": None,
        "tokens_per_second": 9.0,
    }  # fmt: skip

    meta = Reply.read(chat("a", metrics=metrics), {}).meta()

    assert (meta["queue_s"], meta["first_token_s"]) == (1.5, 0.25)
    assert "generation_s" not in meta
    assert "queue_s" not in Reply.read(chat("a", metrics=None), {}).meta()
