"""One suite over model servers: a real vLLM and the timed server that imitates it.

The timed server is always asked.  A real one is asked where the environment
variable SAGE_DASK_VLLM_ENDPOINT has its base URL, such as
``http://127.0.0.1:8000/v1``, and SAGE_DASK_VLLM_MODEL the name of its model, which
should have a context of 2,048 tokens or so and be started with ``--request-metrics``.
What is listed here is what clients and the gate rely on.
"""

from __future__ import annotations

import json
import os
import re
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any

import pytest

from sage_dask.cluster.timed_server import TimedServer

# The first request of each shape compiles something in a real server.
_TIMEOUT_S = 90


@dataclass(frozen=True)
class Server:
    """A model server under test."""

    url: str
    model: str

    def ask(self, path: str, body: Any = None) -> tuple[int, Any]:
        """Return status and content; JSON and streams are parsed."""
        content = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.url}{path}", content, headers)
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:
                return answer.status, _parsed(answer.headers["Content-Type"], answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, _parsed(error.headers["Content-Type"], error.read())

    def chat(self, **fields: Any) -> Any:
        """Return the answer to a chat completion."""
        messages = [{"role": "user", "content": "How are you?"}]
        body = {"model": self.model, "messages": messages, "max_tokens": 3, **fields}
        status, answer = self.ask("/v1/chat/completions", body)
        assert status == 200, answer
        return answer

    def complete(self, **fields: Any) -> Any:
        """Return the answer to a completion."""
        body = {"model": self.model, "prompt": "How are", "max_tokens": 3, **fields}
        status, answer = self.ask("/v1/completions", body)
        assert status == 200, answer
        return answer

    def metrics(self) -> str:
        """Return the page of metrics."""
        return self.ask("/metrics")[1]


def _parsed(kind: str | None, content: bytes) -> Any:
    if kind and kind.startswith("application/json"):
        return json.loads(content)
    if kind and kind.startswith("text/event-stream"):
        events = [line.removeprefix("data: ") for line in content.decode().split("\n\n") if line]
        assert events.pop() == "[DONE]"
        return [json.loads(event) for event in events]
    return content.decode()


@pytest.fixture(scope="module")
def timed():
    """Lend a timed server of the tiny model's size."""
    options = {"model": "tiny", "max_model_len": 2048, "request_metrics": True}
    with TimedServer(**options, step_s=0.001) as server:
        yield Server(server.url, "tiny")


@pytest.fixture(scope="module")
def vllm():
    """Lend the real server that the environment names."""
    endpoint = os.environ.get("SAGE_DASK_VLLM_ENDPOINT")
    if not endpoint:
        pytest.skip("SAGE_DASK_VLLM_ENDPOINT names no server; 'make test-vllm' starts one")
    url = endpoint.rstrip("/").removesuffix("/v1")
    return Server(url, os.environ.get("SAGE_DASK_VLLM_MODEL", "tiny"))


@pytest.fixture(scope="module", params=["timed", "vllm"])
def server(request):
    """Lend each server in turn."""
    return request.getfixturevalue(request.param)


USAGE = {"prompt_tokens", "total_tokens", "completion_tokens"}
DETAILS = {"prompt_tokens_details", "completion_tokens_details"}
ENVELOPE = {"id", "object", "created", "model", "choices", "usage", "system_fingerprint"}
ENVELOPE |= {"service_tier", "kv_transfer_params"}
CHOICE = {"index", "logprobs", "finish_reason", "stop_reason", "token_ids"}
MESSAGE = {"role", "content", "refusal", "annotations", "audio", "function_call", "reasoning"}


def test_a_chat_answer_has_the_fields_of_vllm(server):
    """From the envelope to the message, and the counts add up."""
    answer = server.chat()

    (choice,) = answer["choices"]
    assert answer.keys() >= ENVELOPE | {"prompt_logprobs"}
    assert choice.keys() >= CHOICE | {"message"}
    assert choice["message"].keys() >= MESSAGE
    assert (answer["object"], answer["model"]) == ("chat.completion", server.model)
    assert answer["id"].startswith("chatcmpl-")
    assert choice["message"]["role"] == "assistant"
    assert_usage(answer["usage"], completion_tokens=3)


def test_a_completion_has_the_fields_of_vllm(server):
    """The text is beside the reason why it ends."""
    answer = server.complete()

    (choice,) = answer["choices"]
    assert answer.keys() >= ENVELOPE
    assert choice.keys() >= CHOICE | {"text", "prompt_logprobs"}
    assert (answer["object"], answer["model"]) == ("text_completion", server.model)
    assert answer["id"].startswith("cmpl-")
    assert_usage(answer["usage"], completion_tokens=3)


def assert_usage(usage, completion_tokens):
    assert usage.keys() >= USAGE | DETAILS
    assert usage["prompt_tokens"] > 0
    # A real model may choose to end before.
    assert 1 <= usage["completion_tokens"] <= completion_tokens
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


def test_several_answers_are_numbered_and_their_prompt_counts_once(server):
    """Choices are in order, for each prompt in turn."""
    one = server.complete(prompt=["How", "Why"])
    two = server.complete(prompt=["How", "Why"], n=2)

    assert [choice["index"] for choice in two["choices"]] == [0, 1, 2, 3]
    assert two["usage"]["prompt_tokens"] == one["usage"]["prompt_tokens"]


def test_probabilities_of_a_chat(server):
    """Each token with its own and those of alternatives; none unless asked for."""
    assert server.chat()["choices"][0]["logprobs"] is None
    answer = server.chat(logprobs=True, top_logprobs=2, temperature=0)

    content = answer["choices"][0]["logprobs"]["content"]
    assert len(content) == answer["usage"]["completion_tokens"]
    for token in content:
        assert token.keys() >= {"token", "logprob", "bytes", "top_logprobs"}
        assert token["logprob"] <= 0
        assert len(token["top_logprobs"]) == 2


def test_probabilities_of_a_completion(server):
    """The same in lists."""
    answer = server.complete(logprobs=2, temperature=0)

    logprobs = answer["choices"][0]["logprobs"]
    assert logprobs.keys() >= {"text_offset", "token_logprobs", "tokens", "top_logprobs"}
    assert len(logprobs["tokens"]) == answer["usage"]["completion_tokens"]


def test_an_answer_follows_a_schema(server):
    """What is asked for as JSON is JSON of that kind, also with a random model."""
    schema = {"name": "verdict", "schema": {"enum": ["yes", "no"]}}
    answer = server.chat(
        max_tokens=30, response_format={"type": "json_schema", "json_schema": schema}
    )

    (choice,) = answer["choices"]
    assert json.loads(choice["message"]["content"]) in ("yes", "no")
    assert choice["finish_reason"] == "stop"


def test_a_streamed_chat_has_the_events_of_vllm(server):
    """Who speaks, then tokens, then why it ends, and the usage last if asked for."""
    events = server.chat(stream=True, stream_options={"include_usage": True})

    opening, *pieces, closing = events
    assert {event["object"] for event in events} == {"chat.completion.chunk"}
    assert len({event["id"] for event in events}) == 1
    assert opening["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert all(piece["choices"][0].keys() >= {"index", "delta", "logprobs"} for piece in pieces)
    reasons = [piece["choices"][0]["finish_reason"] for piece in pieces]
    assert reasons[:-1] == [None] * (len(pieces) - 1)
    assert reasons[-1] in ("length", "stop")
    assert closing["choices"] == []
    assert closing["usage"].keys() >= USAGE


TIMES = {"queue_time_ms", "time_to_first_token_ms", "generation_time_ms"}


@pytest.mark.parametrize("is_chat", [True, False])
def test_an_answer_tells_where_its_time_went(server, is_chat):
    """In a whole answer, and in the event of a stream that tells the usage; not of several."""
    ask = server.chat if is_chat else server.complete
    whole, several = ask()["metrics"], ask(n=2)["metrics"]
    *events, closing = ask(stream=True, stream_options={"include_usage": True})

    assert whole.keys() >= TIMES | {"mean_itl_ms", "tokens_per_second"}
    assert closing["metrics"].keys() >= TIMES
    assert all(whole[name] >= 0 and closing["metrics"][name] >= 0 for name in TIMES)
    assert several is None
    assert not any(event.get("metrics") for event in events)


def test_a_streamed_completion_has_the_events_of_vllm(server):
    """Tokens, then why it ends; no usage unless asked for."""
    events = server.complete(stream=True)

    choices = [event["choices"][0] for event in events]
    assert {event["object"] for event in events} == {"text_completion"}
    assert all(choice.keys() >= {"index", "text", "logprobs"} for choice in choices)
    assert [choice["finish_reason"] is None for choice in choices[:-1]] == [True] * (
        len(choices) - 1
    )
    assert choices[-1]["finish_reason"] in ("length", "stop")
    assert not any(event.get("usage") for event in events)


def test_a_stream_holds_the_text_of_the_whole(server):
    """Greedy answers are the same either way."""
    whole = server.complete(temperature=0)["choices"][0]["text"]
    events = server.complete(temperature=0, stream=True)

    assert "".join(event["choices"][0]["text"] for event in events) == whole


def test_streamed_answers_are_told_apart_by_index(server):
    """Several answers of one request arrive interleaved, each with its end."""
    events = server.complete(stream=True, n=2)

    ends = [c["index"] for e in events for c in e["choices"] if c["finish_reason"]]
    assert sorted(ends) == [0, 1]


CHAT, PLAIN = "/v1/chat/completions", "/v1/completions"
HI = [{"role": "user", "content": "hi"}]


@pytest.mark.parametrize(
    ("path", "body", "status", "kind", "param"),
    [
        (CHAT, {"model": "wrong", "messages": HI}, 404, "NotFoundError", "model"),
        (PLAIN, {"model": "wrong", "prompt": "hi"}, 404, "NotFoundError", "model"),
        (CHAT, {"model": "wrong", "messages": HI, "stream": True}, 404, "NotFoundError", "model"),
        (CHAT, {}, 400, "Bad Request", "body.messages"),
        (CHAT, {"messages": "hi"}, 400, "Bad Request", "body.messages"),
        (CHAT, {"messages": []}, 400, "BadRequestError", None),
        (CHAT, b"{bad", 400, "Bad Request", "body.1"),
        (CHAT, [], 400, "Bad Request", "body"),
        (PLAIN, {}, 400, "BadRequestError", "prompt"),
        (PLAIN, {"prompt": "hi", "max_tokens": 0}, 400, "BadRequestError", "max_tokens"),
        (PLAIN, {"prompt": "hi", "max_tokens": 10**6}, 400, "BadRequestError", "max_tokens"),
        (PLAIN, {"prompt": "hi", "max_tokens": "x"}, 400, "Bad Request", "body.max_tokens"),
        (PLAIN, {"prompt": "hi", "temperature": -1}, 400, "BadRequestError", "temperature"),
        (PLAIN, {"prompt": "hi", "n": 0}, 400, "BadRequestError", None),
        (PLAIN, {"prompt": "hi", "n": 2, "temperature": 0}, 400, "BadRequestError", None),
        (CHAT, {"messages": HI, "top_logprobs": 2}, 400, "BadRequestError", "top_logprobs"),
        (
            CHAT,
            {"messages": HI, "response_format": {"type": "json_schema"}},
            *(400, "BadRequestError", "response_format"),
        ),
    ],
)
def test_errors_have_the_status_and_shape_of_vllm(server, path, body, status, kind, param):
    """Type, parameter and code; the words are for people."""
    found, answer = server.ask(path, body)

    error = answer["error"]
    assert (found, error["type"], error["param"], error["code"]) == (status, kind, param, status)
    assert isinstance(error["message"], str)


@pytest.mark.parametrize("is_chat", [True, False])
def test_a_prompt_that_is_too_long_is_refused(server, is_chat):
    """Its record fails; the next one may do."""
    (card,) = server.ask("/v1/models")[1]["data"]
    text = "word " * card["max_model_len"]
    asked = {"messages": [{"role": "user", "content": text}]} if is_chat else {"prompt": text}

    status, answer = server.ask(CHAT if is_chat else PLAIN, {"model": server.model, **asked})

    assert (status, answer["error"]["param"]) == (400, "input_tokens")
    assert "maximum context length" in answer["error"]["message"]


@pytest.mark.parametrize("path", ["/nowhere", "/v1/nowhere"])
def test_unknown_paths_are_not_found(server, path):
    """404, whatever the words."""
    assert server.ask(path)[0] == 404


def test_a_wrong_method_is_refused(server):
    """405, whatever the words."""
    assert server.ask("/v1/chat/completions")[0] == 405


def test_the_model_is_listed_with_its_context(server):
    """The name is what requests must ask for."""
    status, answer = server.ask("/v1/models")

    (card,) = answer["data"]
    assert (status, answer["object"], card["object"]) == (200, "list", "model")
    assert card["id"] == server.model
    assert card["max_model_len"] >= 512


def test_health_and_version_are_told(server):
    """What a launcher waits for, and what a report notes."""
    assert server.ask("/health") == (200, "")
    assert server.ask("/version")[1].keys() == {"version"}


def test_a_prompt_can_be_counted(server):
    """As many tokens as the answer's usage says, for a completion."""
    status, counted = server.ask("/tokenize", {"model": server.model, "prompt": "How are"})

    assert status == 200
    assert counted.keys() >= {"count", "max_model_len", "tokens"}
    assert counted["count"] == len(counted["tokens"])
    assert counted["count"] == server.complete()["usage"]["prompt_tokens"]


METRICS = [
    "num_requests_running",
    "num_requests_waiting",
    "kv_cache_usage_perc",
    "num_preemptions_total",
    "prefix_cache_queries_total",
    "prefix_cache_hits_total",
    "prompt_tokens_total",
    "generation_tokens_total",
    "request_success_total",
    "time_to_first_token_seconds_bucket",
    "e2e_request_latency_seconds_sum",
    "request_queue_time_seconds_count",
    "request_inference_time_seconds_sum",
    "request_prefill_time_seconds_sum",
    "request_decode_time_seconds_sum",
]


@pytest.mark.parametrize("name", METRICS)
def test_metrics_have_the_names_and_labels_of_vllm(server, name):
    """With the model and the engine on each sample."""
    server.complete()

    lines = re.findall(rf"^vllm:{name}\{{(.*)\}} [\d.e+-]+$", server.metrics(), re.MULTILINE)

    assert lines
    assert all(f'model_name="{server.model}"' in labels for labels in lines)
    assert all('engine="0"' in labels for labels in lines)


def test_bounds_of_the_histograms_are_those_of_vllm(server):
    """Dashboards made for the one work for the other."""
    server.complete()
    pattern = r'^vllm:time_to_first_token_seconds_bucket\{.*le="([^"]+)".*\}'

    bounds = re.findall(pattern, server.metrics(), re.MULTILINE)

    assert bounds[:4] == ["0.001", "0.005", "0.01", "0.02"]
    assert bounds[-2:] == ["2560.0", "+Inf"]


def test_requests_are_counted_as_they_end(server):
    """Tokens of prompt and answer, and the request with its reason."""
    before = counters(server)
    usage = server.complete()["usage"]

    # A real server counts a moment after it has answered.
    deadline_s = time.monotonic() + _TIMEOUT_S
    while (after := counters(server)) == before and time.monotonic() < deadline_s:
        time.sleep(0.05)

    assert after["request_success_total"] == before["request_success_total"] + 1
    grown = {name: after[name] - before[name] for name in after}
    assert grown["prompt_tokens_total"] == usage["prompt_tokens"]
    assert grown["generation_tokens_total"] == usage["completion_tokens"]


def counters(server):
    """Return the sums of some counters over their labels."""
    names = ("request_success_total", "prompt_tokens_total", "generation_tokens_total")
    page = server.metrics()
    return {
        name: sum(map(float, re.findall(rf"^vllm:{name}\{{.*\}} (\S+)$", page, re.MULTILINE)))
        for name in names
    }
