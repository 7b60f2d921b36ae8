"""OpenAI's batch files, in and out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sage_dask.operators.files.openai_batch import ReadOpenAIBatch, WriteOpenAIBatch
from sage_dask.record import Failure, Position, SourceItem

MESSAGES = [{"role": "user", "content": "why?"}]
REQUEST: dict[str, Any] = {
    "custom_id": "r-1",
    "method": "POST",
    "url": "/v1/chat/completions",
    "body": {"model": "m", "max_tokens": 5, "messages": MESSAGES},
}


def test_a_request_becomes_a_record(tmp_path: Path):
    """Messages and the other parameters of the body stand apart."""
    path = tmp_path / "in.jsonl"
    path.write_text(json.dumps(REQUEST) + "\n")
    source = ReadOpenAIBatch(path)

    items = list(source.read())

    record = {
        "messages": MESSAGES,
        "parameters": {"model": "m", "max_tokens": 5},
        "url": "/v1/chat/completions",
    }
    assert items == [SourceItem("r-1", record, Position(1, 0))]
    assert source.known_fields().names <= set(record)


@pytest.mark.parametrize(
    ("request_", "error", "message"),
    [
        ({"body": REQUEST["body"]}, "BadIdError", "no field 'custom_id'"),
        ({"custom_id": "x"}, "BadRowError", "'body' is NoneType"),
        ({"custom_id": "x", "body": {"input": "a"}}, "BadRowError", "only chat completions"),
        ({"custom_id": "x", "body": {"messages": []}}, "BadRowError", "only chat completions"),
    ],
)
def test_what_is_no_chat_request_fails_alone(
    request_: dict[str, Any], error: str, message: str, tmp_path: Path
):
    """The requests after it are read."""
    path = tmp_path / "in.jsonl"
    path.write_text(f"{json.dumps(request_)}\n{json.dumps(REQUEST)}\n")

    failure, item = ReadOpenAIBatch(path).read()

    assert isinstance(failure, Failure)
    assert (failure.id, failure.error) == ("line-1", error)
    assert message in failure.message
    assert item.id == "r-1"


def test_answers_and_failures_are_result_lines(tmp_path: Path):
    """An answer is a chat completion without error, a failure an error without response."""
    path = tmp_path / "out.jsonl"
    sink = WriteOpenAIBatch(path, answer="text")
    record = {"text": "so.", "parameters": {"model": "m"}, "usage": {"total_tokens": 3}}
    sink.open()
    refused = sink.write(["r-1", "r-2"], [record, {"text": 5}])
    sink.write_failures(refused)
    sink.close()

    answer, failure = map(json.loads, path.read_text().splitlines())

    created = answer["response"]["body"].pop("created")
    assert isinstance(created, int)
    assert answer == {
        "id": "batch_req_r-1",
        "custom_id": "r-1",
        "response": {
            "status_code": 200,
            "request_id": "req_r-1",
            "body": {
                "id": "chatcmpl-r-1",
                "object": "chat.completion",
                "model": "m",
                "choices": [
                    {
                        "index": 0,
                        "message": {"role": "assistant", "content": "so."},
                        "finish_reason": "stop",
                    }
                ],
                "usage": {"total_tokens": 3},
            },
        },
        "error": None,
    }
    assert (failure["custom_id"], failure["response"]) == ("r-2", None)
    assert failure["error"]["code"] == "ValueError"
    assert "write: field 'text' is int" in failure["error"]["message"]
    assert json.loads(Path(f"{path}.failed.jsonl").read_text())["id"] == "r-2"


def test_what_generate_says_of_an_answer_goes_along(tmp_path: Path):
    """A truncated answer says so, and names the model that wrote it, not the one asked for."""
    path = tmp_path / "out.jsonl"
    meta = {"model": "small", "finish_reason": "length", "usage": {"total_tokens": 3}}
    sink = WriteOpenAIBatch(path)
    sink.open()
    sink.write(["r-1"], [{"answer": "so", "answer_meta": meta, "parameters": {"model": "large"}}])
    sink.close()

    body = json.loads(path.read_text())["response"]["body"]

    assert (body["model"], body["usage"]) == ("small", {"total_tokens": 3})
    assert body["choices"][0]["finish_reason"] == "length"


def test_the_answer_is_asked_for():
    """A plan without the answer's field is refused before the run."""
    assert WriteOpenAIBatch("x.jsonl", answer="text").reads == ("text",)
