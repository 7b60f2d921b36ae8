"""One record's answer: cached, counted, and asked for again until it fits."""

from __future__ import annotations

import asyncio
import json

import pytest

from sage_dask.completion import CompletionError
from sage_dask.endpoint.cache import ResponseCache
from sage_dask.endpoint.caller import Answer
from sage_dask.endpoint.context import RequestContext, working
from sage_dask.endpoint.prices import Prices
from sage_dask.operators.connection import Connection
from sage_dask.operators.generation.asking import Asker
from sage_dask.operators.generation.request import RequestForm
from sage_dask.operators.generation.schema import AnswerSchema

NUMBER = AnswerSchema.load({"type": "integer"})
USAGE = {
    "prompt_tokens": 10,
    "completion_tokens": 2,
    "prompt_tokens_details": {"cached_tokens": 4},
}


class FakeCaller:
    """Answers with texts in turn, and notes what it was asked."""

    def __init__(self, *texts, finish_reason="stop"):
        self.texts = list(texts)
        self.asked = []
        self._finish_reason = finish_reason

    async def call(self, path, body, *, prefix=None, tokens=0, stream=False, request_id=None):
        """Return the next text as a chat answer."""
        self.asked.append((path, body, prefix, tokens, stream))
        choice = {
            "message": {"content": self.texts.pop(0)},
            "finish_reason": self._finish_reason,
        }
        choices = [{**choice, "index": place} for place in range(body.get("n", 1))]
        answer = {"model": "served", "choices": choices, "usage": USAGE}
        return Answer(answer, "http://h/v1", latency_s=0.5, attempts=2)


@pytest.fixture
def context():
    """Work for a context of one's own, whose usage can be looked at."""
    with working(RequestContext()) as context:
        yield context


@pytest.fixture
def cache(tmp_path):
    cache = ResponseCache(tmp_path / "responses.sqlite")
    yield cache
    cache.close()


def asker(caller, *, prices=None, fixed=None, **options):
    form = RequestForm("chat", "m", "prompt", fixed=fixed or {"temperature": 0})
    return Asker(Connection(caller, prices or Prices()), form, **options)


def ask(asker, record):
    return asyncio.run(asker.ask(record)).into(record, "answer", logprobs=False)


def test_an_answer_comes_with_its_account(context):
    """Text, and beside it who answered, how long it took, what it used and what it cost."""
    caller = FakeCaller("Hi")
    prices = Prices(prompt=1.0, completion=5.0, cached=0.5)

    record = ask(asker(caller, prices=prices), {"prompt": "Hello", "id": 7})

    cost = (6 * 1.0 + 4 * 0.5 + 2 * 5.0) / 1e6
    assert record == {
        "prompt": "Hello",
        "id": 7,
        "answer": "Hi",
        "answer_meta": {
            "model": "served", "usage": USAGE, "finish_reason": "stop",
            "endpoint": "http://h/v1", "latency_s": 0.5, "attempts": 2, "cost": cost,
        },
    }  # fmt: skip
    assert context.usage.as_dict() == {
        "prompt_tokens": 10, "cached_tokens": 4, "completion_tokens": 2, "cost": cost
    }  # fmt: skip


def test_a_request_tells_its_size_and_with_replicas_its_beginning(context):
    """The rate limit learns the estimate, the router what the prompt shares with others."""
    caller = FakeCaller("a", "b")
    fixed = {"max_tokens": 100, "n": 2}

    ask(asker(caller, fixed=fixed), {"prompt": "x" * 34})
    ask(asker(caller, fixed=fixed, has_replicas=True, stream=True), {"prompt": "x" * 34})

    (path, _, no_prefix, tokens, is_streamed), (_, _, prefix, _, then_streamed) = caller.asked
    assert (path, no_prefix, tokens) == ("chat/completions", None, 10 + 200)
    assert (is_streamed, then_streamed) == (False, True)
    assert isinstance(prefix, str)


def test_several_answers_come_as_a_list(context):
    """With n > 1 the field takes all of them, and so does the finish reason."""
    record = ask(asker(FakeCaller("Hi"), fixed={"n": 2}), {"prompt": "Hello"})

    assert record["answer"] == ["Hi", "Hi"]
    assert record["answer_meta"]["finish_reason"] == ["stop", "stop"]


def test_an_answer_is_paid_for_once(context, cache):
    """The second time it comes from the cache: nothing is sent, and no token counted."""
    caller = FakeCaller("Hi")
    asking = asker(caller, cache=cache, prices=Prices(prompt=1.0))

    first, second = ask(asking, {"prompt": "Hello"}), ask(asking, {"prompt": "Hello", "id": 2})

    assert second["answer"] == first["answer"] == "Hi"
    assert second["answer_meta"] == {
        "model": "served", "usage": USAGE, "finish_reason": "stop",
        "cached": True, "latency_s": 0.0, "attempts": 0,
    }  # fmt: skip
    assert len(caller.asked) == 1
    assert context.usage.cache_hits == 1
    assert context.usage.prompt_tokens == 10


def test_another_question_or_parameter_is_asked(context, cache):
    """Only what is the same to the last parameter is found."""
    caller = FakeCaller("a", "b", "c")

    for fixed, prompt in [({}, "x"), ({}, "y"), ({"top_p": 0.5}, "x")]:
        ask(asker(caller, cache=cache, fixed={"temperature": 0, **fixed}), {"prompt": prompt})

    assert len(caller.asked) == 3


def test_priority_does_not_change_an_answer(context, cache):
    """A run of another urgency finds what was paid for."""
    caller = FakeCaller("Hi")
    for priority in (1, 2):
        form = RequestForm("chat", "m", "prompt", fixed={"temperature": 0}, priority=priority)
        ask(Asker(Connection(caller, Prices()), form, cache=cache), {"prompt": "Hello"})

    assert context.usage.cache_hits == 1


@pytest.mark.parametrize(
    ("fixed", "asked", "hits"),
    [
        ({"temperature": 0}, None, 1),
        ({"temperature": 0.7}, None, 0),
        ({"temperature": 0.7, "seed": 1}, None, 1),
        ({"temperature": 0.7}, True, 1),
        ({"temperature": 0}, False, 0),
    ],
)
def test_only_what_would_come_out_the_same_is_kept_unless_asked(context, cache, fixed, asked, hits):
    """A fresh draw is a fresh draw, by default."""
    asking = asker(FakeCaller("a", "b"), cache=cache, cache_asked=asked, fixed=fixed)

    for _ in range(2):
        ask(asking, {"prompt": "Hello"})

    assert context.usage.cache_hits == hits


def test_json_comes_parsed(context):
    """The field takes the value that the text stands for."""
    assert ask(asker(FakeCaller("42"), schema=NUMBER), {"prompt": "?"})["answer"] == 42


def test_what_does_not_fit_is_asked_again_with_what_is_wrong(context, cache):
    """The model sees its answer and the fault; all requests are counted, the good one is kept."""
    caller = FakeCaller('"many"', "42")
    asking = asker(caller, schema=NUMBER, reasks=2, cache=cache)

    record = ask(asking, {"prompt": "How many?"})
    again = ask(asking, {"prompt": "How many?"})

    messages = caller.asked[1][1]["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant", "user"]
    assert messages[1]["content"] == '"many"'
    assert '$ is "many", and integer is wanted' in messages[2]["content"]
    assert record["answer"] == again["answer"] == 42
    meta = record["answer_meta"]
    assert (meta["attempts"], meta["latency_s"]) == (4, 1.0)
    assert meta["usage"] == {"prompt_tokens": 20, "cached_tokens": 8, "completion_tokens": 4}
    assert context.usage.prompt_tokens == 20
    assert len(caller.asked) == 2


def test_asking_again_is_bounded(context, cache):
    """After that the record fails, with the last fault and every token counted; nothing is kept."""
    caller = FakeCaller("one", "two", "three", "four", finish_reason="length")
    asking = asker(caller, schema=NUMBER, reasks=2, cache=cache)

    with pytest.raises(CompletionError, match=r"3 requests: .*no JSON.*cut off") as caught:
        ask(asking, {"prompt": "How many?"})

    assert caught.value.attempts == 6
    assert len(caller.asked) == 3
    assert context.usage.completion_tokens == 6
    assert cache.statistics().stored == 0


def test_a_kept_answer_that_can_not_be_read_is_asked_for_again(context, cache):
    """A cache from another version is no reason for a record to fail."""
    caller = FakeCaller("Hi", "Hi")
    asking = asker(caller, cache=cache)
    ask(asking, {"prompt": "Hello"})
    get = cache.get

    async def outdated(key):
        return {"text": json.dumps(await get(key))}

    cache.get = outdated
    record = ask(asking, {"prompt": "Hello"})

    assert record["answer"] == "Hi"
    assert len(caller.asked) == 2
