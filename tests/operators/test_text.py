"""Documents into passages."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sage_dask.errors import PlanError
from sage_dask.operators.text import Chunk, word_windows


def test_document_becomes_numbered_passages_that_keep_its_fields():
    """Passages overlap, count from one, and carry the document's other fields."""
    document = {"text": "a b c d e", "title": "letters"}

    (passages,) = Chunk(words=3, overlap=1).process_batch([document])

    assert passages == [
        {"text": "a b c", "title": "letters", "chunk": 1},
        {"text": "c d e", "title": "letters", "chunk": 2},
    ]
    assert document == {"text": "a b c d e", "title": "letters"}


def test_passage_may_go_to_another_field():
    """With ``into``, the document stays beside its passage."""
    (passages,) = Chunk(text="body", into="passage").process_batch([{"body": "a\nb"}])

    assert passages == [{"body": "a\nb", "passage": "a\nb", "chunk": 1}]


@pytest.mark.parametrize("record", [{}, {"text": None}, {"text": 3}])
def test_document_without_text_fails_alone(record):
    """A record whose field is no text fails and the others are cut."""
    failed, cut = Chunk().process_batch([record, {"text": "a"}])

    assert isinstance(failed, TypeError)
    assert "'text'" in str(failed)
    assert cut == [{"text": "a", "chunk": 1}]


def test_document_without_words_has_no_passages():
    """A blank document is dropped, as an expansion into nothing."""
    assert Chunk().process_batch([{"text": " \n"}]) == [[]]


@pytest.mark.parametrize(("words", "overlap"), [(10, 10), (10, 11), (0, 0), (10, -1)])
def test_windows_that_stand_still_are_refused(words, overlap):
    """An overlap that eats the whole window is found while planning."""
    with pytest.raises(PlanError, match="do not fit"):
        Chunk(words=words, overlap=overlap).check()


@given(st.lists(st.sampled_from("abcde"), max_size=60), st.integers(1, 12), st.data())
def test_windows_cover_every_word_once_beside_the_overlap(letters, words, data):
    """Joined without their overlaps the windows are the text, and none is superfluous."""
    overlap = data.draw(st.integers(0, words - 1))

    windows = [window.split() for window in word_windows(" ".join(letters), words, overlap)]

    joined = windows[0] if windows else []
    for window in windows[1:]:
        assert joined[len(joined) - overlap :] == window[:overlap]
        assert len(window) > overlap
        joined = joined + window[overlap:]
    assert joined == letters
    assert all(len(window) <= words for window in windows)
