from __future__ import annotations

import pickle

import numpy as np
import pytest

from sage_dask import aio
from sage_dask.endpoint.context import RequestContext, working
from sage_dask.errors import PlanError, SetupError
from sage_dask.operators.embed import Embed
from sage_dask.operators.models import load_embedder


def ready(**options):
    stage = Embed(**options)
    stage.check()
    stage.setup()
    return stage


@pytest.mark.rag
def test_each_record_gains_the_vector_of_its_text():
    """Vectors are those of the model, in the field that was named; nothing else changes."""
    stage = ready(model="minilm", text="q", into="vector")
    records = [{"q": "What is a list?", "n": 1}, {"q": "Why?", "n": 2}]

    outcomes = stage.process_batch(records)

    expected = load_embedder().encode([record["q"] for record in records])
    for record, outcome, vector in zip(records, outcomes, expected, strict=True):
        np.testing.assert_allclose(outcome["vector"], vector, atol=1e-6)
        assert outcome["vector"].dtype == np.float32
        assert {**outcome, "vector": None} == {**record, "vector": None}
        assert "vector" not in record


@pytest.mark.rag
@pytest.mark.parametrize("bad", [{}, {"question": ""}, {"question": "  "}, {"question": 7}])
def test_a_record_without_text_fails_alone(bad):
    """Its neighbours are embedded; the error names the field."""
    outcomes = ready().process_batch([{"question": "a"}, bad, {"question": "b"}])

    assert isinstance(outcomes[1], ValueError)
    assert "'question'" in str(outcomes[1])
    np.testing.assert_allclose(
        outcomes[2]["embedding"], load_embedder().encode(["b"])[0], atol=1e-5
    )


@pytest.mark.rag
def test_a_prefix_is_put_before_the_text():
    """Models that want "query: " get it, and the record's text stays."""
    (outcome,) = ready(prefix="query: ").process_batch([{"question": "why?"}])

    np.testing.assert_allclose(
        outcome["embedding"], load_embedder().encode(["query: why?"])[0], atol=1e-6
    )
    assert outcome["question"] == "why?"


@pytest.mark.rag
def test_tokens_come_along_when_asked():
    """One vector per token in the second field, and the same vector in the first."""
    (outcome,) = ready(tokens_into="tokens").process_batch([{"question": "one two three"}])

    vectors, tokens = load_embedder().encode_tokens(["one two three"])
    np.testing.assert_allclose(outcome["embedding"], vectors[0], atol=1e-6)
    assert outcome["tokens"].dtype == np.float16
    np.testing.assert_allclose(outcome["tokens"], tokens[0], atol=1e-3)


@pytest.mark.rag
def test_only_the_declaration_travels():
    """A stage that has loaded its model pickles to a few hundred bytes."""
    stage = ready()

    data = pickle.dumps(stage)
    arrived = pickle.loads(data)

    assert len(data) < 1000
    assert arrived == stage
    with pytest.raises(SetupError, match="Embed"):
        arrived.process_batch([{"question": "a"}])


def test_what_is_read_and_written_is_declared():
    """A plan can see which fields the stage needs and makes."""
    stage = Embed(text="q", into="v", tokens_into="t")

    assert (stage.reads, stage.writes) == (("q",), ("v", "t"))
    assert Embed().writes == ("embedding",)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size=0"),
        ({"threads": 0}, "threads=0"),
        ({"tokens_into": "embedding"}, "both 'embedding'"),
    ],
)
def test_check_refuses_before_any_work(options, message):
    """Impossible options are found on the driver."""
    with pytest.raises(PlanError, match=message):
        Embed(**options).check()


def vectors_of(body, width=2):
    """Answer as a server does, in no particular order: text "3" has the vector (3, 4)."""
    data = [
        {"index": place, "embedding": [float(text)] + [4.0] * (width - 1)}
        for place, text in enumerate(body["input"])
    ]
    return {"data": data[::-1], "usage": {"prompt_tokens": len(data), "total_tokens": len(data)}}


def test_a_server_embeds_in_requests_of_the_given_size(serve, set_up):
    """Vectors come back to their records, of length 1, and tokens are counted."""
    server = serve(vectors_of)
    stage = set_up(
        Embed(endpoint=server.endpoint, model="m", request_size=2, prefix="1", extra={"user": "u"})
    )

    with working(RequestContext()) as context:
        outcomes = aio.run(
            stage.process_batch([{"question": str(n)} for n in (3, 0, 1)] + [{"question": ""}])
        )

    assert [path for path, _ in server.requests] == ["embeddings"] * 2
    assert sorted(body["input"] for body in server.bodies) == [["11"], ["13", "10"]]
    assert server.bodies[0]["model"] == "m"
    assert server.bodies[0]["user"] == "u"
    for outcome, first in zip(outcomes[:3], (13, 10, 11), strict=True):
        expected = np.array([first, 4.0]) / np.hypot(first, 4.0)
        np.testing.assert_allclose(outcome["embedding"], expected, rtol=1e-6)
        assert outcome["embedding"].dtype == np.float32
    assert isinstance(outcomes[3], ValueError)
    assert (context.usage.requests, context.usage.prompt_tokens) == (2, 3)


def test_a_server_s_vectors_may_stay_as_they_are(serve, set_up):
    """Without normalize they keep their length."""
    stage = set_up(Embed(endpoint=serve(vectors_of).endpoint, model="m", normalize=False))

    (outcome,) = aio.run(stage.process_batch([{"question": "3"}]))

    assert outcome["embedding"].tolist() == [3.0, 4.0]


def test_token_vectors_are_not_asked_of_a_server():
    """What /embeddings can not give is refused while planning."""
    with pytest.raises(PlanError, match="tokens_into='t'"):
        Embed(endpoint="http://h/v1", model="m", tokens_into="t").check()


def test_only_the_declaration_of_a_remote_stage_travels(serve, set_up):
    """The connection stays; the copy wants a setup of its own."""
    stage = set_up(Embed(endpoint=serve(vectors_of).endpoint, model="m"))

    arrived = pickle.loads(pickle.dumps(stage))

    assert arrived == stage
    with pytest.raises(SetupError, match="Embed"):
        arrived.process_batch([{"question": "3"}])
