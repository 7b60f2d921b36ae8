from __future__ import annotations

import pickle

import numpy as np
import pytest

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
