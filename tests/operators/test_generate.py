"""Answers for records, from a server or from their own passages."""

from __future__ import annotations

import json
import pickle
import traceback

import pytest

from sage_dask import aio
from sage_dask.completion import CompletionError
from sage_dask.endpoint.context import RequestContext, working
from sage_dask.endpoint.limit import RequestLimit
from sage_dask.errors import PlanError, SetupError, StopRun
from sage_dask.operators.generate import Generate
from sage_dask.operators.sources import ReadOpenAIBatch
from sage_dask.testing import FakeChatServer, Fault

URL = "http://127.0.0.1:1/v1"
KEY = "sk-very-secret-0123456789"
PASSAGES = [
    {"id": "zip", "text": "Archives are read with zipfile. It is part of the library."},
    {"id": "json", "text": "A JSON document is parsed by json.loads. It returns objects."},
]


@pytest.fixture
def ready(set_up):
    """Lend out operators that are set up, and tear them down afterwards."""
    return lambda **options: set_up(Generate(**options))


def run(generate, records):
    """Return the outcomes of a batch, and what its requests used."""
    with working(RequestContext()) as context:
        return aio.run(generate.process_batch(records)), context.usage


def test_a_batch_is_answered_by_the_server(ready):
    """Each record keeps its fields and gains the answer and its meta."""
    records = [{"id": i, "prompt": f"prompt {i}"} for i in range(5)]
    with FakeChatServer() as server:
        generate = ready(endpoint=server.endpoint, model="m", price={"prompt": 1e6})

        outcomes, usage = run(generate, records)

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
            "endpoint": server.endpoint,
            "attempts": 1,
            "cost": 2.0,
        }
    assert (usage.requests, usage.tokens, usage.cost) == (5, 20, 10.0)


def test_all_parameters_reach_the_server(serve, ready):
    """What is declared is what is sent, under the protocol's names."""
    logprobs = {"content": [{"token": "a", "logprob": -1.0, "bytes": [97]}]}
    choice = {"message": {"content": "a"}, "logprobs": logprobs}
    server = serve(lambda body: {"choices": [{**choice, "index": n} for n in range(2)]})
    generate = ready(
        endpoint=server.endpoint, model="m", system="Be brief.", max_tokens=5, temperature=0.5,
        top_p=0.9, stop=["\n"], seed=3, n=2, logprobs=1, extra={"top_k": 20}, priority="urgency",
        cache=False,
    )  # fmt: skip

    (outcome,), _ = run(generate, [{"prompt": "Hi", "urgency": 4}])

    assert server.requests == [
        (
            "chat/completions",
            {
                "model": "m", "max_tokens": 5, "temperature": 0.5, "top_p": 0.9, "stop": ["\n"],
                "seed": 3, "n": 2, "logprobs": True, "top_logprobs": 1, "top_k": 20, "priority": -4,
                "messages": [
                    {"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}
                ],
            },
        )
    ]  # fmt: skip
    assert outcome["answer"] == ["a", "a"]
    assert outcome["answer_logprobs"] == [[{"token": "a", "logprob": -1.0}]] * 2
    assert list(generate.writes) == ["answer", "answer_meta", "answer_logprobs"]
    assert list(generate.reads) == ["prompt", "urgency"]


def test_plain_completions_have_a_path_of_their_own(serve, ready):
    """With ``api="completions"`` the prompt travels as a text and comes back as one."""
    server = serve(lambda body: {"choices": [{"text": body["prompt"] + " upon a time"}]})
    generate = ready(endpoint=server.endpoint, model="m", api="completions")

    (outcome,), _ = run(generate, [{"prompt": "Once"}])

    assert server.requests[0][0] == "completions"
    assert outcome["answer"] == "Once upon a time"


def test_json_is_asked_for_and_asked_again(serve, ready, tmp_path):
    """The schema's file is read where the stage is declared; a bad answer gets a second chance."""
    path = tmp_path / "age.json"
    path.write_text(json.dumps({"type": "object", "properties": {"age": {"type": "integer"}}}))
    texts = iter(['{"age": "old"}', '{"age": 36}'])
    server = serve(lambda body: {"choices": [{"message": {"content": next(texts)}}]})
    declared = Generate(endpoint=server.endpoint, model="m", json_schema=str(path))
    travelled = pickle.dumps(declared)
    path.unlink()
    arrived = pickle.loads(travelled)
    generate = ready(**arrived.__getstate__())

    (outcome,), usage = run(generate, [{"prompt": "Ada?"}])

    assert outcome["answer"] == {"age": 36}
    assert usage.requests == 2
    assert server.bodies[0]["response_format"]["json_schema"]["schema"]["type"] == "object"
    assert "integer is wanted" in server.bodies[1]["messages"][-1]["content"]


def test_answers_are_kept_where_the_path_says(serve, ready, tmp_path):
    """A second stage of the same path finds what the first one paid for."""
    server = serve(lambda body: {"choices": [{"message": {"content": "Hi"}}]})
    options = {"endpoint": server.endpoint, "model": "m", "cache": str(tmp_path / "c.sqlite")}

    _, first = run(ready(**options), [{"prompt": "Hello"}])
    (outcome,), second = run(ready(**options), [{"prompt": "Hello"}])

    assert (first.requests, first.cache_hits) == (1, 0)
    assert (second.requests, second.cache_hits) == (0, 1)
    assert outcome["answer_meta"]["cached"] is True


def test_the_users_own_cache_takes_what_would_come_out_the_same(
    serve, ready, tmp_path, monkeypatch
):
    """By default temperature 0 is kept in the user's cache folder, and a draw is not."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    server = serve(lambda body: {"choices": [{"message": {"content": "Hi"}}]})

    for temperature in (0.7, 0, 0):
        generate = ready(endpoint=server.endpoint, model="m", temperature=temperature)
        _, usage = run(generate, [{"prompt": "Hello"}])

    assert len(server.requests) == 2
    assert usage.cache_hits == 1
    assert list(tmp_path.rglob("*.sqlite"))


def test_requests_of_openai_s_batch_files_keep_their_parameters(serve, ready, tmp_path):
    """Each request asks for what its own body says, of the stage's model."""
    path = tmp_path / "requests.jsonl"
    bodies = [
        {"model": "theirs", "messages": [{"role": "user", "content": "a"}], "max_tokens": 3},
        {"model": "theirs", "messages": [{"role": "user", "content": "b"}], "temperature": 0.1},
    ]
    path.write_text(
        "\n".join(
            json.dumps({"custom_id": str(n), "url": "/v1/chat/completions", "body": body})
            for n, body in enumerate(bodies)
        )
    )
    records = [item.record for item in ReadOpenAIBatch(str(path)).read()]
    server = serve(lambda body: {"choices": [{"message": {"content": "Hi"}}]})
    options = {"endpoint": server.endpoint, "prompt": "messages", "parameters": "parameters"}

    run(ready(model="ours", **options), records)
    run(ready(model=None, **options), records[:1])

    by_text = {body["messages"][0]["content"]: body for body in server.bodies[:2]}
    assert [by_text["a"][name] for name in ("model", "max_tokens", "temperature")] == [
        "ours", 3, 0.7
    ]  # fmt: skip
    assert (by_text["b"]["max_tokens"], by_text["b"]["temperature"]) == (256, 0.1)
    assert server.bodies[2]["model"] == "theirs"


def test_one_refused_prompt_fails_alone(ready):
    """A 400 fails its record; the others are answered, and no error is an answer."""
    with FakeChatServer([Fault(400, body="too long")]) as server:
        generate = ready(endpoint=server.endpoint, model="m")

        outcomes, usage = run(generate, [{"prompt": "a"}, {"prompt": "b"}, {"no": "prompt"}])

    *asked, unasked = outcomes
    (failed,) = (outcome for outcome in asked if isinstance(outcome, CompletionError))
    (answered,) = (outcome for outcome in asked if isinstance(outcome, dict))
    assert "too long" in str(failed)
    assert answered["answer"] == answered["prompt"]
    assert isinstance(unasked, ValueError)
    assert "no field 'prompt'" in str(unasked)
    assert usage.requests == len(server.requests) == 2


def test_a_refused_key_stops_the_batch(ready):
    """A 401 ends the run, even while other prompts are waiting for their answer."""
    with FakeChatServer([Fault(hang=True), Fault(401, body="no")]) as server:
        generate = ready(endpoint=server.endpoint, model="m")

        with pytest.raises(StopRun, match="api_key_env"):
            run(generate, [{"prompt": "a"}, {"prompt": "b"}])


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
    ("options", "message"),
    [
        ({"model": None}, "go together"),
        ({"endpoint": None}, "go together"),
        ({"endpoint": "h:8000/v1"}, "no URL"),
        ({"api": "both"}, "neither"),
        ({"api": "completions", "system": "Be brief."}, "system= needs messages"),
        ({"api": "completions", "json_schema": {}}, "json_schema= needs messages"),
        ({"json_schema": {"type": "strin"}}, "'string'"),
        ({"json_schema": {}, "extra": {"response_format": {}}}, "response_format"),
        ({"reasks": -1}, "reasks=-1"),
        ({"temperature": -1}, "temperature=-1"),
        ({"attempts": 0}, "attempts=0"),
        ({"extra": {"stream": True}}, "'stream'"),
        ({"extra": {"max_tokens": 3}}, "'max_tokens'"),
    ],
)
def test_contradictions_are_refused(options, message):
    """What no server could answer is found while planning."""
    with pytest.raises(PlanError, match=message):
        Generate(**{"endpoint": URL, "model": "m", **options}).check()


def test_server_and_model_come_first():
    """They are what one nearly always gives, so they need no names."""
    assert Generate(URL, "m") == Generate(endpoint=URL, model="m")


def test_servers_and_their_limits_are_known_from_the_declaration():
    """The planner and the gates see one name per server, however it was written."""
    generate = Generate(endpoint=["http://A:8000/v1/", "http://b:80/v1"], model="m", limit=7)

    assert generate.endpoints == ("http://a:8000/v1", "http://b/v1")
    assert generate.request_limit == RequestLimit(7, 512)
    assert (Generate().endpoints, Generate().is_async) == ((), False)


def test_a_preview_tells_the_size_of_a_request_and_sends_nothing():
    """No setup, no server: what the exact messages would take, at most."""
    generate = Generate(
        endpoint=URL, model="m", system="s" * 26, max_tokens=100, n=2,
        price={"prompt": 1.0, "completion": 10.0},
    )  # fmt: skip

    preview = generate.preview({"prompt": "p" * 32})

    read = -(-len("system: " + "s" * 26 + "\nuser: " + "p" * 32) // 4)
    assert preview == {
        "prompt_tokens": read,
        "max_completion_tokens": 200,
        "cost_max": pytest.approx((read * 1.0 + 200 * 10.0) / 1e6),
    }
    assert Generate(endpoint=URL, model="m", max_tokens=None).preview({"prompt": "abc"}) == {
        "prompt_tokens": 3
    }
    assert Generate().preview({"question": "Why?"}) is None
    with pytest.raises(ValueError, match="no field 'prompt'"):
        generate.preview({})


def test_a_set_up_operator_travels_as_it_was_declared(ready, monkeypatch):
    """Neither client nor key is pickled, and the copy wants a setup of its own."""
    monkeypatch.setenv("MY_KEY", KEY)
    generate = ready(endpoint=URL, model="m", api_key_env="MY_KEY")

    travelled = pickle.dumps(generate)
    arrived = pickle.loads(travelled)

    assert arrived == generate
    assert KEY.encode() not in travelled
    assert KEY not in repr(generate)
    with pytest.raises(SetupError, match="setup"):
        arrived.process_batch([{"prompt": "a"}])


def test_a_key_that_a_server_repeats_is_in_no_error(ready, monkeypatch):
    """Whatever way the server says it, neither message nor traceback nor pickle has it."""
    monkeypatch.setenv("MY_KEY", KEY)
    echoes = [
        Fault(400, body=f"bad key {KEY}"),
        Fault(200, body=f"<{KEY}>"),
        Fault(200, body=json.dumps({"error": KEY})),
        Fault(200, body=json.dumps({"choices": [{"message": {"content": [KEY]}}]})),
        Fault(401, body=KEY),
    ]
    shown = []
    with FakeChatServer(echoes) as server:
        generate = ready(endpoint=server.endpoint, model="m", api_key_env="MY_KEY", attempts=1)
        for _ in echoes[:-1]:
            ((failed,), _) = run(generate, [{"prompt": "a"}])
            assert isinstance(failed, CompletionError)
            shown += ["".join(traceback.format_exception(failed)), str(pickle.dumps(failed))]
        with pytest.raises(StopRun) as caught:
            run(generate, [{"prompt": "a"}])
        shown += ["".join(traceback.format_exception(caught.value))]

    assert server.authorizations == [f"Bearer {KEY}"] * len(echoes)
    assert KEY not in "".join(shown)


def test_a_missing_key_is_told_by_the_name_of_its_variable(ready, monkeypatch):
    """A worker without the variable refuses to start rather than ask without a key."""
    monkeypatch.delenv("MY_KEY", raising=False)

    with pytest.raises(SetupError, match="MY_KEY"):
        ready(endpoint=URL, model="m", api_key_env="MY_KEY")


def test_row_text_is_sent_as_it_stands(ready):
    """Nothing in a row is a template, a format code or a command to anybody on the way."""
    rows = ["{__class__}", "{0}", "$(id)", "{{prompt}}", "%s %(prompt)s", "\\n\x00", "{prompt}"]
    with FakeChatServer() as server:
        generate = ready(endpoint=server.endpoint, model="m", system="{prompt} %s")

        outcomes, _ = run(generate, [{"prompt": row} for row in rows])

    assert [outcome["answer"] for outcome in outcomes] == rows
    assert {body["messages"][0]["content"] for body in server.requests} == {"{prompt} %s"}


@pytest.mark.rag
def test_meaning_finds_what_words_do_not(ready):
    """With the embedder the answer shares no word with the question, and is the right one."""
    (outcome,) = ready().process_batch(
        [{"question": "How do I decompress files?", "passages": PASSAGES}]
    )

    assert outcome["answer"].startswith("Archives are read with zipfile.")
    assert outcome["answer_meta"]["model"] == "extractive"
