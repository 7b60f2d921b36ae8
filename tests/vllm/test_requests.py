"""What a real vLLM answers: the fields, errors and metrics that the rest is built on."""

from __future__ import annotations

import asyncio
import json
import statistics
import time

import aiohttp
import pytest

pytestmark = pytest.mark.vllm

MESSAGES = [{"role": "user", "content": "hi"}]
SCHEMA = {
    "type": "object",
    "properties": {"yes": {"type": "boolean"}, "kind": {"enum": ["cat", "dog"]}},
    "required": ["yes", "kind"],
    "additionalProperties": False,
}


def chat(**options):
    """Return a chat request of four tokens that do not stop early."""
    return {"messages": MESSAGES, "max_tokens": 4, "ignore_eos": True, **options}


def test_a_chat_is_answered_and_counted(ask):
    """The answer has a text, a reason for its end, and the tokens of both directions."""
    (answer,) = ask("chat/completions", chat())

    (choice,) = answer.body["choices"]
    assert answer.status == 200
    assert isinstance(choice["message"]["content"], str)
    assert choice["finish_reason"] == "length"
    assert choice["logprobs"] is None
    # Every byte of the prompt is a token, and so are the marks of its turns.
    assert answer.body["usage"]["prompt_tokens"] == len("_user\nhi_\n_assistant\n")
    assert answer.body["usage"]["completion_tokens"] == 4


def test_a_text_is_completed_with_and_without_logprobs(ask):
    """Asked for, each token comes with its logarithm; else there is none."""
    body = {"prompt": "hi", "max_tokens": 3, "temperature": 0, "ignore_eos": True}
    plain, detailed = ask("completions", body, {**body, "logprobs": 2})

    assert plain.body["choices"][0]["logprobs"] is None
    logprobs = detailed.body["choices"][0]["logprobs"]
    assert len(logprobs["token_logprobs"]) == len(logprobs["tokens"]) == 3
    assert all(value <= 0 for value in logprobs["token_logprobs"])
    assert all(len(top) >= 2 for top in logprobs["top_logprobs"])


def test_several_answers_and_chat_logprobs_come_in_one_response(ask):
    """``n`` gives as many choices, each with its own log-probabilities."""
    (answer,) = ask("chat/completions", chat(n=3, logprobs=True, top_logprobs=1, temperature=1))

    assert [choice["index"] for choice in answer.body["choices"]] == [0, 1, 2]
    assert all(len(choice["logprobs"]["content"]) == 4 for choice in answer.body["choices"])
    assert answer.body["usage"]["completion_tokens"] == 12


def test_a_seed_repeats_an_answer(ask):
    """Two requests with one seed have one answer, even of a random model."""
    first, second, other = ask(
        "chat/completions",
        *(chat(seed=seed, temperature=1, max_tokens=16) for seed in (1, 1, 2)),
    )

    texts = [each.body["choices"][0]["message"]["content"] for each in (first, second, other)]
    assert texts[0] == texts[1] != texts[2]


def test_a_schema_shapes_the_answer(ask):
    """Even noise is valid JSON of the schema."""
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}
    answers = ask(
        "chat/completions",
        *(
            {"messages": MESSAGES, "max_tokens": 100, "seed": seed, "response_format": form}
            for seed in range(4)
        ),
    )

    for answer in answers:
        value = json.loads(answer.body["choices"][0]["message"]["content"])
        assert set(value) == {"yes", "kind"}
        assert isinstance(value["yes"], bool)
        assert value["kind"] in ("cat", "dog")


def test_a_wrong_model_is_not_found(ask):
    """The name that was asked for is in the message."""
    (answer,) = ask("chat/completions", chat(model="nope"))

    assert answer.status == 404
    assert "`nope` does not exist" in answer.body["error"]["message"]


def test_a_prompt_that_is_too_long_is_a_bad_request(ask):
    """The error names the parameter and the limit."""
    (answer,) = ask("completions", {"prompt": "x" * 20_000, "max_tokens": 4})

    assert answer.status == 400
    assert answer.body["error"]["param"] == "input_tokens"
    assert "maximum context length is 16384 tokens" in answer.body["error"]["message"]


def test_broken_json_is_a_bad_request(server):
    """A body that is no JSON has an error in JSON."""

    async def post():
        async with (
            aiohttp.ClientSession() as session,
            session.post(
                f"{server.endpoint}/completions",
                data=b'{"model": ',
                headers={"Content-Type": "application/json"},
            ) as answer,
        ):
            return answer.status, await answer.json()

    status, body = asyncio.run(post())

    assert status == 400
    assert "error" in body


def test_a_stream_comes_in_pieces_and_ends_with_its_usage(server):
    """Tokens arrive one event each; the last one counts them, if asked to."""
    events = asyncio.run(
        stream(server, chat(max_tokens=8, stream=True, stream_options={"include_usage": True}))
    )

    assert events[-1] == "[DONE]"
    chunks = [json.loads(event) for event in events[:-1]]
    assert chunks[-1]["usage"]["completion_tokens"] == 8
    assert chunks[-1]["choices"] == []
    assert chunks[-2]["choices"][0]["finish_reason"] == "length"


def test_a_stream_that_its_reader_cuts_frees_its_seat(server, metric):
    """Going away is noticed: nothing runs any more, long before the answer would have ended."""
    before = metric("vllm:generation_tokens_total")

    events = asyncio.run(stream(server, chat(max_tokens=15_000, stream=True), most=2))

    assert len(events) == 2
    assert comes_true(lambda: metric("vllm:num_requests_running") == 0)
    assert metric("vllm:generation_tokens_total") - before < 10_000


def test_too_many_requests_are_turned_away(ask, metric):
    """Beyond the queue's limit the answer is 503, without a word on when to come back."""
    rejected = metric("vllm:admission_rejections_total", reason="max_num_queued_reqs")

    answers = ask("chat/completions", *[chat(max_tokens=32)] * 200)

    busy = [answer for answer in answers if answer.status == 503]
    assert {answer.status for answer in answers} == {200, 503}
    assert all("Retry-After" not in answer.headers for answer in busy)
    assert all("error" in answer.body for answer in busy)
    assert comes_true(
        lambda: (
            metric("vllm:admission_rejections_total", reason="max_num_queued_reqs")
            == rejected + len(busy)
        )
    )


def test_answers_say_how_long_they_took(ask):
    """Queue, first token and generation are told per request."""
    (answer,) = ask("chat/completions", chat())

    metrics = answer.body["metrics"]
    for name in ("queue_time_ms", "time_to_first_token_ms", "generation_time_ms"):
        assert metrics[name] >= 0


def test_urgent_requests_overtake_those_that_wait(ask):
    """With all seats taken, the lowest priority number waits less than the others."""
    late = [chat(max_tokens=64, priority=10) for _ in range(80)]
    urgent = [chat(max_tokens=64, priority=0) for _ in range(4)]

    answers = ask("chat/completions", *late, *urgent)

    waits = [answer.body["metrics"]["queue_time_ms"] for answer in answers]
    assert statistics.median(waits[-4:]) < statistics.median(waits[:-4])


def test_load_is_told_under_known_names(ask, metric):
    """Counters that accounting rests on go up by what was sent."""
    before = metric("vllm:prompt_tokens_total"), metric("vllm:generation_tokens_total")

    (answer,) = ask("chat/completions", chat())

    usage = answer.body["usage"]
    wanted = (before[0] + usage["prompt_tokens"], before[1] + usage["completion_tokens"])
    names = ("vllm:prompt_tokens_total", "vllm:generation_tokens_total")
    assert comes_true(lambda: tuple(metric(name) for name in names) == wanted)
    assert 0 <= metric("vllm:kv_cache_usage_perc") <= 1


async def stream(server, body, most=None):
    """Return the events of a streamed answer; with ``most``, go away after that many."""
    events = []
    async with (
        aiohttp.ClientSession() as session,
        session.post(
            f"{server.endpoint}/chat/completions", json={"model": server.model, **body}
        ) as answer,
    ):
        async for line in answer.content:
            if line.startswith(b"data: "):
                events.append(line.removeprefix(b"data: ").decode().strip())
            if len(events) == most:
                break
    return events


def comes_true(condition):
    """Return whether something becomes so within a minute; metrics follow a moment later."""
    deadline = time.monotonic() + 60
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True
