"""Embeddings and rankings by common words."""

from __future__ import annotations

import base64
import math
import struct

import pytest

from sage_dask.cluster.timed_server import TimedOptions
from sage_dask.cluster.timed_server.pooling import (
    embeddings,
    overlap,
    ranking,
    read_documents,
    read_texts,
    vector,
)
from sage_dask.cluster.timed_server.refusal import RefusalError

OPTIONS = TimedOptions(embedding_size=64, max_model_len=100)


def cosine(one, other):
    return sum(a * b for a, b in zip(vector(one, 256), vector(other, 256), strict=True))


@pytest.mark.parametrize("text", ["one two three", "", "!", "x"])
def test_vectors_have_unit_length(text):
    """Of any text, and the same ones every time."""
    assert math.hypot(*vector(text, 64)) == pytest.approx(1.0)
    assert vector(text, 64) == vector(text, 64)


def test_common_words_make_texts_near():
    """Order and case do not matter."""
    assert cosine("the red fox", "Fox the RED") == pytest.approx(1.0)
    assert cosine("the red fox", "the red hen") > 0.4 > cosine("the red fox", "one more time")


def test_embeddings_come_as_numbers_or_packed():
    """Both are the same numbers, one row for each text."""
    texts = read_texts({"input": ["a b", "c"]}, OPTIONS)

    plain = embeddings({}, texts, OPTIONS)["data"]
    packed = embeddings({"encoding_format": "base64"}, texts, OPTIONS)["data"]

    assert [len(row["embedding"]) for row in plain] == [64, 64]
    numbers = struct.unpack("<64f", base64.b64decode(packed[0]["embedding"]))
    assert numbers == pytest.approx(plain[0]["embedding"])


def test_a_ranking_is_best_first_and_stable():
    """Documents that share more of the query's words come first; equal ones as they came."""
    query, documents = read_documents(
        {"query": "red fox", "documents": ["hen", {"text": "red fox runs"}, "a fox", "a hen"]},
        OPTIONS,
    )

    results = ranking({"top_n": 3}, query, documents, OPTIONS)["results"]

    assert [(r["index"], r["relevance_score"]) for r in results] == [(1, 1.0), (2, 0.5), (0, 0.0)]
    assert results[0]["document"]["text"] == "red fox runs"
    assert overlap("", "anything") == 0.0


@pytest.mark.parametrize(
    ("read", "body", "status"),
    [
        (read_texts, {}, 400),
        (read_texts, {"input": [1]}, 400),
        (read_texts, {"input": "x" * 400}, 400),
        (read_texts, {"input": "a", "model": "other"}, 404),
        (read_documents, {"query": "a"}, 400),
        (read_documents, {"documents": ["a"]}, 400),
        (read_documents, {"query": "a", "documents": ["x" * 400]}, 400),
    ],
)
def test_what_can_not_be_read_is_refused(read, body, status):
    """As with requests for text."""
    with pytest.raises(RefusalError) as told:
        read(body, OPTIONS)

    assert told.value.status == status
