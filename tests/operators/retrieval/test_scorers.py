from __future__ import annotations

import zlib

import numpy as np
import pytest

from sage_dask.operators.arrays import unit_rows
from sage_dask.operators.retrieval.scorers import (
    Bm25,
    Candidates,
    CrossEncoded,
    EncodedMaxSim,
    FusedRanks,
    StoredMaxSim,
    TokenCache,
)
from sage_dask.operators.retrieval.tokens import max_similarity


class FakeEmbedder:
    """One fixed random unit vector per word, so that equal words are equal vectors."""

    def __init__(self):
        self.encoded = []

    def encode_tokens(self, texts):
        self.encoded += texts
        tokens = [np.array([self.word(word) for word in text.split()]) for text in texts]
        return np.zeros((len(texts), 8), np.float32), tokens

    @staticmethod
    def word(word):
        draw = np.random.default_rng(zlib.crc32(word.encode()))
        return unit_rows(draw.standard_normal((1, 8)).astype(np.float32))[0]


class FakeCrossEncoder:
    """Scores a pair by how many words it shares."""

    def score(self, pairs):
        shared = [len(set(query.split()) & set(text.split())) for query, text in pairs]
        return np.array(shared, dtype=np.float32)


def candidates(query, *texts, **more):
    return Candidates(query, [{"id": text, "text": text} for text in texts], **more)


ASKED = [
    candidates("red cat", "blue dog", "red cat here", "red dog"),
    candidates("nothing found"),
    candidates("green", "green", "yellow"),
]


@pytest.mark.parametrize(
    "scorer",
    [EncodedMaxSim(FakeEmbedder(), 10), CrossEncoded(FakeCrossEncoder()), Bm25(), FusedRanks()],
    ids=lambda scorer: type(scorer).__name__,
)
def test_each_query_gets_one_score_per_passage(scorer):
    """All scorers answer each query for its own passages, none for a query that found none."""
    scores = scorer.score(ASKED)

    assert [len(some) for some in scores] == [3, 0, 2]
    assert scores[0].argmax() == 1 or isinstance(scorer, FusedRanks)
    assert scores[2].argmax() == 0
    assert all(some.dtype == np.float32 for some in scores)


def test_a_batch_scores_as_its_queries_do_alone():
    """Sharing forward passes mixes nothing up."""
    together = EncodedMaxSim(FakeEmbedder(), 10).score(ASKED)
    alone = [EncodedMaxSim(FakeEmbedder(), 10).score([one])[0] for one in ASKED]

    for batch, single in zip(together, alone, strict=True):
        np.testing.assert_array_equal(batch, single)


def test_equal_words_have_cosine_one():
    """A passage with all words of the query scores the number of its words."""
    (scores,) = EncodedMaxSim(FakeEmbedder(), 10).score([candidates("red cat", "the red cat sat")])

    assert scores[0] == pytest.approx(2.0, abs=1e-5)


def test_query_tokens_that_came_along_are_not_computed_again():
    """Only queries without tokens are encoded, and each gets its own."""
    embedder = FakeEmbedder()
    brought = np.array([FakeEmbedder.word("blue")])
    asked = [
        candidates("red", "red", "blue"),
        candidates("red", "red", "blue", query_tokens=brought),
        candidates("blue", "red", "blue"),
    ]

    scores = EncodedMaxSim(embedder, 10).score(asked)

    assert [some.argmax() for some in scores] == [0, 1, 1]
    assert embedder.encoded == ["red", "blue", "red", "blue"]


def test_a_passage_is_encoded_once():
    """Passages that come again, in a batch or later, are taken from the cache."""
    embedder = FakeEmbedder()
    cache = TokenCache(embedder, size=10)

    first = cache.vectors(["a", "b", "a"])
    again = cache.vectors(["b", "c"])

    assert embedder.encoded == ["a", "b", "c"]
    np.testing.assert_array_equal(first[1], again[0])
    np.testing.assert_array_equal(first[0], first[2])


def test_the_cache_forgets_what_was_used_longest_ago():
    """Its size is kept, and a passage that was used again outlives one that was not."""
    embedder = FakeEmbedder()
    cache = TokenCache(embedder, size=2)

    for text in ("old", "used", "old", "new", "old", "new"):
        cache.vectors([text])

    assert len(cache) == 2
    assert embedder.encoded == ["old", "used", "new"]


def test_more_passages_than_the_cache_holds_are_all_scored():
    """A batch larger than the cache loses nothing."""
    texts = [f"word{n}" for n in range(9)]

    vectors = TokenCache(FakeEmbedder(), size=2).vectors(texts)

    for text, found in zip(texts, vectors, strict=True):
        np.testing.assert_array_equal(found, [FakeEmbedder.word(text)])


def test_fused_ranks_follow_both_orders():
    """A passage second in the retrieval and first by words beats the retrieval's first."""
    (scores,) = FusedRanks().score([candidates("cat", "dog", "cat", "bird")])

    assert scores.argmax() == 1
    assert scores[0] > scores[2]


@pytest.fixture
def index(tmp_path):
    from sage_dask.operators.retrieval.passage_index import PassageIndex
    from sage_dask.operators.retrieval.writer import IndexWriter

    texts = ["blue dog", "red cat here", "red dog", "a b c d e f g h"]
    with IndexWriter(tmp_path / "i", model="fake", tokens=True) as writer:
        vectors = np.ones((4, 8), np.float32)
        passages = [{"text": text} for text in texts]
        writer.add(texts, passages, vectors, FakeEmbedder().encode_tokens(texts)[1])
    return PassageIndex(tmp_path / "i")


def stored(index, query, *rows):
    passages = [{**index.passages[row], "row": row} for row in rows]
    return Candidates(query, passages)


@pytest.mark.rag
def test_stored_tokens_score_as_encoded_ones_do(index):
    """The compressed vectors of the index give nearly the scores of fresh ones."""
    embedder = FakeEmbedder()
    asked = [stored(index, "red cat", 2, 0, 1), stored(index, "blue", 0), stored(index, "g x", 3)]

    by_codes = StoredMaxSim(embedder, index).score(asked)

    assert embedder.encoded == ["red cat", "blue", "g x"]
    for scores, one in zip(by_codes, asked, strict=True):
        query = FakeEmbedder().encode_tokens([one.query])[1][0]
        exact = max_similarity(query, FakeEmbedder().encode_tokens(one.texts)[1])
        np.testing.assert_allclose(scores, exact, atol=0.02)


@pytest.mark.rag
def test_a_row_of_another_index_is_refused(index):
    """A row that holds another passage would score nonsense, so it names both."""
    strange = Candidates("red", [{"id": "red dog", "text": "red dog", "row": 0}])

    with pytest.raises(ValueError, match=r"'red dog' claims row 0, where index .* 'blue dog'"):
        StoredMaxSim(FakeEmbedder(), index).score([strange])
