from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sage_dask.operators.retrieval.lexical import (
    LexicalIndex,
    bm25_scores,
    build_lexical,
    reciprocal_rank_fusion,
    words,
)

TEXTS = ["The cat sat on the mat", "A dog barked", "the dog and the cat", "nothing shared"]


def test_words_fold_case_and_drop_punctuation():
    """Words of a text and of a query meet whatever their case."""
    assert words("Straße, 42: OK!") == ["strasse", "42", "ok"]


def test_rare_words_count_more():
    """A passage with the rare word of a query comes before those with the frequent one."""
    scores = bm25_scores("cat barked", TEXTS)

    assert scores.argmax() == 1
    assert scores[3] == 0.0


def test_one_score_by_hand():
    """One word in one of two equally long texts scores by the published formula."""
    scores = bm25_scores("cat", ["cat", "dog"])

    expected = np.log(1 + 1.5 / 1.5) * 1 / (1 + 1.5)
    np.testing.assert_allclose(scores, [expected, 0.0], rtol=1e-6)


@pytest.mark.parametrize("texts", [[], [""], ["...", ""]])
def test_texts_without_words_score_nothing(texts):
    """No texts, or texts without a word, are no division by zero."""
    assert bm25_scores("cat", texts).tolist() == [0.0] * len(texts)


def test_fusion_by_hand():
    """A row that both rankings found beats the first of each; ties keep their order."""
    fused = reciprocal_rank_fusion([[7, 8], [9, 8]])

    assert [row for row, _ in fused] == [8, 7, 9]
    assert fused[0][1] == pytest.approx(2 / 62)
    assert fused[1][1] == fused[2][1] == pytest.approx(1 / 61)


@given(st.permutations(range(6)))
def test_one_ranking_fuses_to_itself(ranking):
    """Fusing a ranking with itself changes nothing."""
    assert [row for row, _ in reciprocal_rank_fusion([ranking, ranking])] == list(ranking)


@pytest.mark.rag
def test_index_ranks_like_the_formula(tmp_path):
    """The stored index finds what the formula over all texts finds, in that order."""
    build_lexical(TEXTS, tmp_path)
    index = LexicalIndex(tmp_path)

    for query in ("the cat", "dog", "barked cat"):
        scores = bm25_scores(query, TEXTS)
        expected = [row for row in np.argsort(-scores, kind="stable") if scores[row] > 0]
        assert index.search(query, 4) == expected


@pytest.mark.rag
def test_a_query_of_unknown_words_finds_nothing(tmp_path):
    """No shared word means no rows, rather than any rows."""
    build_lexical(TEXTS, tmp_path)

    assert LexicalIndex(tmp_path).search("zebra", 3) == []
    assert LexicalIndex(tmp_path).search("...", 3) == []


@pytest.mark.rag
def test_a_corpus_without_words_can_be_indexed(tmp_path):
    """Passages of punctuation only make an index that finds nothing."""
    build_lexical(["...", "!!"], tmp_path)

    assert LexicalIndex(tmp_path).search("word", 2) == []
