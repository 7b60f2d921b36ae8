from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sage_dask.evaluation import RetrievalScore, recall_at, reciprocal_rank, retrieval_table

rankings = st.lists(st.integers(0, 20), unique=True, max_size=15)
relevants = st.sets(st.integers(0, 20), min_size=1, max_size=5)


def test_recall_by_hand():
    """Two of three relevant ids among the first four are two thirds."""
    assert recall_at(["a", "x", "b", "y", "c"], {"a", "b", "c"}, 4) == pytest.approx(2 / 3)


def test_reciprocal_rank_by_hand():
    """The first relevant id at rank 3 gives a third; none gives 0."""
    assert reciprocal_rank(["x", "y", "b", "a"], {"a", "b"}) == pytest.approx(1 / 3)
    assert reciprocal_rank(["x"], {"a"}) == 0.0


@given(rankings, relevants)
def test_recall_grows_with_depth(ranked, relevant):
    """Looking further down never loses anything, and stays within 0 and 1."""
    recalls = [recall_at(ranked, relevant, k) for k in range(1, 20)]

    assert recalls == sorted(recalls)
    assert 0.0 <= recalls[0] <= recalls[-1] <= 1.0
    assert recalls[-1] == len(relevant & set(ranked)) / len(relevant)


@given(rankings, relevants)
def test_reciprocal_rank_agrees_with_recall(ranked, relevant):
    """The first relevant id stands at the smallest depth at which recall is not zero."""
    depths = [k for k in range(1, 16) if recall_at(ranked, relevant, k) > 0]

    assert reciprocal_rank(ranked, relevant) == (1 / depths[0] if depths else 0.0)


def test_means_by_hand():
    """Each query weighs the same, whether it found anything or not."""
    score = RetrievalScore.of([["a", "b"], ["b", "a"], []], [{"a"}, {"a"}, {"a"}], depths=(1, 2))

    assert score.num_queries == 3
    assert score.recall == pytest.approx({1: 1 / 3, 2: 2 / 3})
    assert score.mrr == pytest.approx((1 + 1 / 2 + 0) / 3)


@pytest.mark.parametrize("k", [0, -1])
def test_a_depth_below_one_is_refused(k):
    """A slice from the end must not pass for a depth."""
    with pytest.raises(ValueError, match=f"k={k}"):
        recall_at(["a"], {"a"}, k)


def test_nothing_relevant_is_refused():
    """A query that nothing answers has no recall."""
    with pytest.raises(ValueError, match="no id is relevant"):
        recall_at(["a"], set(), 1)
    with pytest.raises(ValueError, match="no id is relevant"):
        reciprocal_rank(["a"], set())


def test_unequal_lists_are_refused():
    """Rankings and relevant ids come in pairs."""
    with pytest.raises(ValueError, match="2 rankings and 1 sets"):
        RetrievalScore.of([["a"], ["b"]], [{"a"}])
    with pytest.raises(ValueError, match="0 rankings"):
        RetrievalScore.of([], [])


def test_table_shows_before_and_after():
    """Each system has a line, and columns stand under their heads."""
    before = RetrievalScore.of([["b", "a"]], [{"a"}])
    after = RetrievalScore.of([["a", "b"]], [{"a"}])

    table = retrieval_table({"before": before, "after": after})

    assert table.splitlines() == [
        "        recall@1  recall@5  recall@10    MRR  queries",
        "before     0.000     1.000      1.000  0.500        1",
        "after      1.000     1.000      1.000  1.000        1",
    ]


def test_different_depths_do_not_share_a_table():
    """Columns mean the same in every line."""
    one = RetrievalScore.of([["a"]], [{"a"}], depths=(1,))
    two = RetrievalScore.of([["a"]], [{"a"}], depths=(1, 5))

    with pytest.raises(ValueError, match="2 different"):
        retrieval_table({"one": one, "two": two})
