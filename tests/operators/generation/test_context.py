"""Passages as the numbered context of a prompt."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sage_dask.operators.generation.context import numbered_context

PASSAGES = [
    {"id": "p1", "title": "First", "text": "One is here. It has two sentences."},
    {"id": "p2", "text": "Two is here. It has two as well."},
]


def test_passages_are_numbered_and_named():
    """Blocks carry number, title or id, and text, best first."""
    assert numbered_context(PASSAGES, 1000) == (
        "[1] First: One is here. It has two sentences.\n\n[2] p2: Two is here. It has two as well."
    )


def test_plain_strings_have_no_name_and_blank_passages_no_block():
    """A string is a passage too; a blank one is left out and keeps its number."""
    assert numbered_context(["a", " ", "c"], 100) == "[1] a\n\n[3] c"


@pytest.mark.parametrize(
    ("max_chars", "wanted"),
    [
        (80, "[1] First: One is here. It has two sentences.\n\n[2] p2: Two is here."),
        (66, "[1] First: One is here. It has two sentences."),
        (30, "[1] First: One is here."),
        (15, "[1] First: One"),
    ],
)
def test_context_is_cut_between_sentences(max_chars, wanted):
    """What does not fit goes sentence by sentence; only the very first is cut inside one."""
    assert numbered_context(PASSAGES, max_chars) == wanted


@pytest.mark.parametrize("passage", [None, 3, {"id": "p"}, {"text": None}])
def test_passage_without_text_is_refused(passage):
    """A passage that is neither text nor has one raises, and the message says what it is."""
    with pytest.raises(TypeError, match="without text"):
        numbered_context([passage], 100)


@given(st.lists(st.text(alphabet="ab. A\n", max_size=80), max_size=6), st.integers(1, 200))
def test_context_never_exceeds_its_room(texts, max_chars):
    """However texts and room fall, the context is no longer than asked."""
    assert len(numbered_context(texts, max_chars)) <= max_chars
