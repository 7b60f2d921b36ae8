"""Answers for records, from a server or from their own passages."""

from __future__ import annotations

import pickle

import pytest

from sage_dask import aio
from sage_dask.completion import CompletionError
from sage_dask.errors import PlanError, SetupError, StopRun
from sage_dask.operators.generate import Generate
from sage_dask.testing import FakeChatServer, Fault

PASSAGES = [
    {"id": "zip", "text": "Archives are read with zipfile. It is part of the library."},
    {"id": "json", "text": "A JSON document is parsed by json.loads. It returns objects."},
]


@pytest.fixture
def ready():
    """Lend out operators that are set up, and tear them down afterwards."""
    operators = []

    def make(**options):
        operator = Generate(**options)
        operator.check()
        operator.setup()
        operators.append(operator)
        return operator

    yield make
    for operator in operators:
        operator.teardown()


def test_a_batch_is_answered_by_the_server(ready):
    """Each record keeps its fields and gains the answer and its meta."""
    records = [{"id": i, "prompt": f"prompt {i}"} for i in range(5)]
    with FakeChatServer() as server:
        generate = ready(endpoint=server.endpoint, model="m")

        outcomes = aio.run(generate.process_batch(records))

    assert generate.is_async
    assert list(generate.reads) == ["prompt"]
    assert list(generate.writes) == ["answer", "answer_meta"]
    for record, outcome in zip(records, outcomes, strict=True):
        meta = outcome.pop("answer_meta")
        assert outcome == {**record, "answer": record["prompt"]}
        assert meta.pop("latency_s") > 0
        assert meta == {
            "model": "echo",
            "usage": {"prompt_tokens": 2, "completion_tokens": 2},
            "finish_reason": "stop",
        }


def test_one_refused_prompt_fails_alone(ready):
    """A 400 fails its record; the others are answered, and no error is an answer."""
    with FakeChatServer([Fault(400, body="too long")]) as server:
        generate = ready(endpoint=server.endpoint, model="m", concurrency=1)

        failed, *answered = aio.run(
            generate.process_batch([{"prompt": "a"}, {"prompt": "b"}, {"no": "prompt"}])
        )

    assert isinstance(failed, CompletionError)
    assert answered[0]["answer"] == "b"
    assert isinstance(answered[1], KeyError)


def test_a_refused_key_stops_the_batch(ready):
    """A 401 ends the run, even while other prompts are waiting for their answer."""
    with FakeChatServer([Fault(hang=True), Fault(401, body="no")]) as server:
        generate = ready(endpoint=server.endpoint, model="m")

        with pytest.raises(StopRun, match="api_key_env"):
            aio.run(generate.process_batch([{"prompt": "a"}, {"prompt": "b"}]))


def test_answers_are_quoted_without_an_endpoint(ready):
    """Without a server the answer is a passage's own sentence, and says so."""
    generate = ready(embedder=None)

    (outcome,) = generate.process_batch(
        [{"question": "How is a JSON document parsed?", "passages": PASSAGES}]
    )

    assert not generate.is_async
    assert list(generate.reads) == ["question", "passages"]
    assert outcome["answer"] == "A JSON document is parsed by json.loads."
    assert outcome["answer_meta"]["model"] == "extractive-lexical"
    assert outcome["answer_meta"]["sources"] == ["json"]


def test_a_record_without_passages_fails_alone(ready):
    """Nothing to quote from is an error of that record and never an empty answer."""
    outcomes = ready(embedder=None).process_batch(
        [
            {"question": "Why?", "passages": []},
            {"question": "Why?"},
            {"question": "", "passages": PASSAGES},
            {"question": "Why?", "passages": [{"id": "p"}]},
            {"question": "How are archives read?", "passages": PASSAGES},
        ]
    )

    assert [type(outcome) for outcome in outcomes] == [
        CompletionError, KeyError, ValueError, TypeError, dict
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("generate", "message"),
    [
        (Generate(endpoint="http://h:1/v1"), "go together"),
        (Generate(model="m"), "go together"),
        (Generate(endpoint="h:8000/v1", model="m"), "no URL"),
        (Generate(endpoint="ftp://h/v1", model="m"), "no URL"),
        (Generate(endpoint="http://h:1/v1", model="m", api="both"), "neither"),
        (Generate(timeout_s=0), "timeout_s"),
        (Generate(concurrency=0), "concurrency"),
        (Generate(attempts=0), "attempts"),
        (Generate(extra={"stream": True}), "'stream'"),
        (Generate(extra={"max_tokens": 3}), "'max_tokens'"),
    ],
)
def test_contradictions_are_refused(generate, message):
    """What no server could answer is found while planning."""
    with pytest.raises(PlanError, match=message):
        generate.check()


@pytest.mark.parametrize(
    "endpoint", ["http://user:hunter2@h:1/v1", "http://h:1/v1?api_key=hunter2"]
)
def test_a_password_in_the_endpoint_is_refused_and_not_repeated(endpoint):
    """Credentials belong in the environment; the refusal does not show them."""
    with pytest.raises(PlanError, match="api_key_env") as caught:
        Generate(endpoint=endpoint, model="m").check()

    assert "hunter2" not in str(caught.value)


def test_a_set_up_operator_travels_as_it_was_declared(ready, monkeypatch):
    """Neither client nor key is pickled, and the copy wants a setup of its own."""
    monkeypatch.setenv("MY_KEY", "sk-very-secret")
    generate = ready(endpoint="http://127.0.0.1:1/v1", model="m", api_key_env="MY_KEY")

    travelled = pickle.dumps(generate)
    arrived = pickle.loads(travelled)

    assert arrived == generate
    assert b"sk-very-secret" not in travelled
    assert "sk-very-secret" not in repr(generate)
    with pytest.raises(SetupError, match="setup"):
        aio.run(arrived.process_batch([{"prompt": "a"}]))


@pytest.mark.rag
def test_meaning_finds_what_words_do_not(ready):
    """With the embedder the answer shares no word with the question, and is the right one."""
    (outcome,) = ready().process_batch(
        [{"question": "How do I decompress files?", "passages": PASSAGES}]
    )

    assert outcome["answer"].startswith("Archives are read with zipfile.")
    assert outcome["answer_meta"]["model"] == "extractive"
