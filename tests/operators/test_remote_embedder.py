"""Vectors from a server."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sage_dask import aio
from sage_dask.completion import CompletionError
from sage_dask.errors import StopRun
from sage_dask.operators.embed import Embed
from sage_dask.operators.remote_embedder import read_vectors


def embedded(set_up, server, texts, **options):
    stage = set_up(Embed(endpoint=server.endpoint, model="m", attempts=1, **options))
    return aio.run(stage.process_batch([{"question": text} for text in texts]))


def answer_of(body, width=2):
    return {"data": [{"index": n, "embedding": [1.0] * width} for n in range(len(body["input"]))]}


def test_a_text_that_is_refused_fails_alone(serve, set_up):
    """Its request is halved until it stands alone; each other text is embedded once."""

    def answer(body):
        return (400, {"message": "too long"}) if "bad" in body["input"] else answer_of(body)

    server = serve(answer)

    outcomes = embedded(set_up, server, ["a", "b", "bad", "c", "d", "e"])

    assert isinstance(outcomes.pop(2), CompletionError)
    assert all(isinstance(outcome, dict) for outcome in outcomes)
    answered = [
        text for body in server.bodies if "bad" not in body["input"] for text in body["input"]
    ]
    assert sorted(answered) == ["a", "b", "c", "d", "e"]


def test_an_answer_of_another_form_fails_its_texts_without_asking_again(serve, set_up):
    """A model that does not embed is not asked for each text by itself."""
    server = serve(lambda body: {"choices": []})

    outcomes = embedded(set_up, server, ["a", "b", "c"])

    assert [type(outcome) for outcome in outcomes] == [CompletionError] * 3
    assert "embedding model" in str(outcomes[0])
    assert len(server.requests) == 1


def test_replicas_of_different_models_stop_the_run(serve, set_up):
    """Vectors of two widths can not be compared; the run must not go on with both."""
    widths = iter([2, 3])
    server = serve(lambda body: answer_of(body, next(widths)))

    with pytest.raises(StopRun, match="width"):
        embedded(set_up, server, ["a", "b"], request_size=1)


def test_nothing_is_asked_for_nothing(serve, set_up):
    """A batch without a text sends no request."""
    server = serve(answer_of)

    assert embedded(set_up, server, []) == []
    assert server.requests == []


@pytest.mark.parametrize(
    "body",
    [
        None,
        [],
        {},
        {"data": None},
        {"data": [{"index": 0}]},
        {"data": [{"index": 0, "embedding": [1.0]}]},
        {"data": [{"index": 0, "embedding": [1.0]}, {"index": 0, "embedding": [1.0]}]},
        {"data": [{"index": 1, "embedding": [1.0]}, {"index": 2, "embedding": [1.0]}]},
        {"data": [{"index": 0, "embedding": [1.0]}, {"index": 1, "embedding": [1.0, 2.0]}]},
        {"data": [{"index": 0, "embedding": [1.0]}, {"index": 1, "embedding": [float("nan")]}]},
        {"data": [{"index": 0, "embedding": [1.0]}, {"index": 1, "embedding": "AAAA"}]},
        {"data": [{"index": 0, "embedding": 1.0}, {"index": 1, "embedding": 2.0}]},
    ],
)
def test_what_are_no_vectors_is_an_error(body):
    """Two texts want two vectors of finite numbers and one width, each named once."""
    with pytest.raises(CompletionError, match="embedding model"):
        read_vectors(body, 2)


@given(st.permutations(range(6)))
def test_vectors_find_their_texts_by_index(order):
    """The order in which a server lists them does not matter."""
    body = {"data": [{"index": n, "embedding": [float(n), 1.0]} for n in order]}

    np.testing.assert_array_equal(read_vectors(body, 6)[:, 0], np.arange(6))
