"""Scores from a server."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sage_dask.completion import CompletionError
from sage_dask.operators.remote_scorer import read_scores


@pytest.mark.parametrize(
    "body",
    [
        None,
        {},
        {"results": None},
        {"results": [{"index": 0, "relevance_score": 1.0}]},
        {"results": [{"index": n, "relevance_score": 1.0} for n in (0, 0)]},
        {"results": [{"index": n, "relevance_score": 1.0} for n in (0, 1, 1)]},
        {"results": [{"index": n, "relevance_score": 1.0} for n in (1, 2)]},
        {"results": [{"index": n, "relevance_score": float("inf")} for n in (0, 1)]},
        {"results": [{"index": n, "relevance_score": None} for n in (0, 1)]},
        {"results": [{"index": n, "score": 1.0} for n in (0, 1)]},
    ],
)
def test_what_does_not_score_each_text_once_is_an_error(body):
    """A missing score must not pass for a bad one."""
    with pytest.raises(CompletionError, match="each of 2 texts once"):
        read_scores(body, 2)


@given(st.permutations(range(6)))
def test_scores_find_their_texts_by_index(order):
    """Servers list the best first; scores come out in the order of the texts."""
    body = {"results": [{"index": n, "relevance_score": n / 10} for n in order]}

    assert read_scores(body, 6).tolist() == pytest.approx([n / 10 for n in range(6)])
