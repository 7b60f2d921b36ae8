"""Scoring an index: the parts that need no model (``tests/cli/test_index.py`` runs the whole)."""

from __future__ import annotations

import pytest

from sage_dask import FromIterable
from sage_dask.experiments.retrieval_quality import (
    FirstRecords,
    checked,
    with_ids_after,
    with_ids_before,
)


def test_the_first_records_are_those_of_the_source():
    """A limited source yields the same records and ids, fewer of them."""
    source = FromIterable([{"a": 1}, {"a": 2}, {"a": 3}])

    limited = FirstRecords(source, 2)

    assert list(limited.read()) == list(source.read())[:2]
    assert limited.known_fields() == source.known_fields()
    assert limited.name == source.name


@pytest.mark.parametrize("relevant", [[], "a", None, {"a": 1}])
def test_a_question_without_relevant_ids_fails(relevant):
    """A question that can not be scored is refused, with what was found."""
    with pytest.raises(ValueError, match="must be a list of the ids"):
        checked({"relevant": relevant})


def test_both_rankings_are_kept_and_nothing_else():
    """The order before reranking survives it, and vectors and texts do not travel back."""
    record = {"relevant": ["b"], "embedding": [0.5], "passages": [{"id": "a"}, {"id": "b"}]}

    before = with_ids_before(record)
    after = with_ids_after({**before, "passages": [{"id": "b"}]})

    assert after == {"relevant": ["b"], "retrieved_ids": ["a", "b"], "reranked_ids": ["b"]}
