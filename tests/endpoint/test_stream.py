"""A streamed answer becomes what it would have been in one piece."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sage_dask.endpoint.stream import Assembly, Events


def chunk(*choices, **head):
    return {"id": "c1", "object": "chat.completion.chunk", "model": "m", "choices": choices, **head}


def told(text, index=0, finish=None, **more):
    return {"index": index, "delta": {"content": text}, "finish_reason": finish, **more}


def encoded(*events, newline="\n", done=True):
    lines = [f"data: {json.dumps(event)}{newline}{newline}" for event in events]
    return ("".join(lines) + (f"data: [DONE]{newline}{newline}" if done else "")).encode()


def assembled(content, num_choices=1):
    assembly = Assembly(num_choices)
    assembly.feed(content)
    return assembly


CHAT = [
    chunk({"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}),
    chunk(told("Hel")),
    chunk(told("lo wörld")),
    chunk({"index": 0, "delta": {}, "finish_reason": "stop"}),
    chunk(usage={"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}),
]


def test_a_chat_stream_adds_up_to_a_chat_completion():
    """Texts continue, names stay, the usage of the last event is there."""
    assembly = assembled(encoded(*CHAT))

    assert assembly.is_done
    assert assembly.is_whole
    assert assembly.body() == {
        "id": "c1",
        "object": "chat.completion",
        "model": "m",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hello wörld"},
                "finish_reason": "stop",
                "logprobs": None,
            }
        ],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
    }


def test_what_the_last_event_tells_of_the_server_s_time_is_in_the_body():
    """Beside the usage, after every choice has ended, as vLLM sends it."""
    metrics = {"queue_time_ms": 1.5, "time_to_first_token_ms": 20.0}
    events = [*CHAT[:-1], {**CHAT[-1], "metrics": metrics}]

    assert assembled(encoded(*events)).body()["metrics"] == metrics


@given(st.lists(st.integers(0, 600)), st.sampled_from(["\n", "\r\n"]))
@example(list(range(1_000)), "\r\n")
def test_it_does_not_matter_where_the_bytes_are_cut(cuts, newline):
    """Any division into pieces, within a character or a line break too, gives the same body."""
    content = encoded(*CHAT, newline=newline)
    borders = [0, *sorted(min(cut, len(content)) for cut in cuts), len(content)]
    assembly = Assembly()

    for start, end in pairwise(borders):
        assembly.feed(content[start:end])

    assert assembly.is_done
    assert assembly.body() == assembled(encoded(*CHAT)).body()


def test_comments_other_fields_and_lines_of_one_event_are_read_as_the_standard_says():
    """Comments keep a connection alive, other fields say nothing, lines of data are joined."""
    content = b': ping\n\nevent: x\nid: 1\ndata: {"a":\ndata:1}\n\n\ndata: 2\n\ndata: never ended'

    assert list(Events().feed(content)) == [b'{"a":\n1}', b"2"]


def test_a_plain_completion_stream_adds_up_with_its_log_probabilities():
    """Texts and lists continue, side by side for each choice, in the order of their numbers."""
    lists = [
        {"tokens": [t], "token_logprobs": [-1.0], "text_offset": [i]} for i, t in enumerate("ab")
    ]
    events = [
        {"object": "text_completion", "choices": [{"index": 1, "text": "z", "logprobs": None}]},
        {"choices": [{"index": 0, "text": "a", "logprobs": lists[0]}]},
        {"choices": [{"index": 0, "text": "b", "logprobs": lists[1], "finish_reason": "length"}]},
        {"choices": [{"index": 1, "text": "", "finish_reason": "stop", "stop_reason": 7}]},
    ]

    assembly = assembled(encoded(*events, done=False), num_choices=2)

    assert assembly.is_whole
    assert assembly.body()["choices"] == [
        {
            "index": 0,
            "text": "ab",
            "finish_reason": "length",
            "logprobs": {
                "tokens": ["a", "b"],
                "token_logprobs": [-1.0, -1.0],
                "text_offset": [0, 1],
            },
        },
        {"index": 1, "text": "z", "finish_reason": "stop", "logprobs": None, "stop_reason": 7},
    ]


def test_chat_log_probabilities_continue():
    """The lists of tokens of each event are one list in the end."""
    events = [chunk(told(t, logprobs={"content": [{"token": t, "logprob": -0.5}]})) for t in "ab"]

    (choice,) = assembled(encoded(*events)).body()["choices"]

    assert [each["token"] for each in choice["logprobs"]["content"]] == ["a", "b"]


def test_tool_calls_and_reasoning_continue_by_their_numbers():
    """Arguments come in pieces; names and ids come once."""
    calls = [
        {"index": 0, "id": "t1", "type": "function", "function": {"name": "f", "arguments": ""}},
        {"index": 0, "function": {"arguments": '{"x":'}},
        {"index": 1, "id": "t2", "type": "function", "function": {"name": "g", "arguments": "{}"}},
        {"index": 0, "function": {"arguments": " 1}"}},
    ]
    events = [chunk({"index": 0, "delta": {"tool_calls": [call]}}) for call in calls]
    events += [chunk({"index": 0, "delta": {"reasoning_content": t}}) for t in ("so ", "be it")]

    message = assembled(encoded(*events)).body()["choices"][0]["message"]

    assert message["reasoning_content"] == "so be it"
    assert [
        (c["id"], c["function"]["name"], c["function"]["arguments"]) for c in message["tool_calls"]
    ] == [("t1", "f", '{"x": 1}'), ("t2", "g", "{}")]


def test_names_that_are_repeated_in_each_event_are_not_joined():
    """Some servers tell role, id and type with every piece."""
    call = {"index": 0, "id": "t1", "type": "function", "function": {"arguments": "x"}}
    delta = {"role": "assistant", "tool_calls": [call]}

    message = assembled(encoded(*[chunk({"index": 0, "delta": delta})] * 2)).body()["choices"][0][
        "message"
    ]

    assert message == {
        "role": "assistant",
        "tool_calls": [{**call, "function": {"arguments": "xx"}}],
    }


@pytest.mark.parametrize(
    ("events", "num_choices", "is_whole"),
    [
        ([], 1, False),
        ([chunk(told("a"))], 1, False),
        ([chunk(told("a", finish="stop"))], 1, True),
        ([chunk(told("a", finish="stop"))], 2, False),
        ([chunk(told("a", finish="stop"), told("b", 1))], 2, False),
        ([chunk(told("a", finish="stop"), told("b", 1, "stop"))], 2, True),
    ],
)
def test_a_stream_without_its_end_is_whole_if_every_choice_has_ended(events, num_choices, is_whole):
    """A cut before the last word of any choice is noticed, one after it does no harm."""
    assert assembled(encoded(*events, done=False), num_choices).is_whole is is_whole
    assert assembled(encoded(*events, done=True), num_choices).is_whole


@pytest.mark.parametrize("error", [{"error": {"message": "boom"}}, {"object": "error", "code": 1}])
def test_an_error_in_the_stream_ends_it(error):
    """What came before an error is no answer, nor is what comes after it."""
    assembly = assembled(encoded(CHAT[1], error, CHAT[2]))

    assert assembly.is_done
    assert assembly.error == error


@pytest.mark.parametrize("content", [b"data: {\n\n", b"data: 1\n\n", b"data: \xff\n\n"])
def test_an_event_that_is_no_object_is_an_error(content):
    """Garbage never passes for an answer."""
    with pytest.raises(ValueError):
        assembled(content)
