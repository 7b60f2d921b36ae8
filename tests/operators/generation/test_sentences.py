"""Sentence splitting of documentation-like text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sage_dask.operators.generation.sentences import sentence_spans, sentences


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("One here. Two here! Three?", ["One here.", "Two here!", "Three?"]),
        ("Use it, e.g. Like this. Done.", ["Use it, e.g. Like this.", "Done."]),
        ("A name (i.e. A path). Next.", ["A name (i.e. A path).", "Next."]),
        ("Call os.path.join twice. Then stop.", ["Call os.path.join twice.", "Then stop."]),
        ("New in version 3.11. Gone in 3.13.", ["New in version 3.11.", "Gone in 3.13."]),
        ("Written by J. Smith in May. Kept.", ["Written by J. Smith in May.", "Kept."]),
        ("It is so. and goes on.", ["It is so. and goes on."]),
        ("Reads it. json.loads() parses it.", ["Reads it.", "json.loads() parses it."]),
        ("Why? read_text() knows.", ["Why?", "read_text() knows."]),
        ('He said "Stop." Then he went.', ['He said "Stop."', "Then he went."]),
        ("Items:\n- one\n- two", ["Items:", "- one", "- two"]),
        ("Steps:\n1. Open it\n2. Close it", ["Steps:", "1. Open it", "2. Close it"]),
        ("A title\n\nA paragraph\nof two lines.", ["A title", "A paragraph\nof two lines."]),
        ("For example:\n>>> f(1)\n2", ["For example:", ">>> f(1)\n2"]),
        ("Takes a, b, etc. Returns c.", ["Takes a, b, etc.", "Returns c."]),
        ("As do you and I. We agree.", ["As do you and I.", "We agree."]),
        ("", []),
        (" \n ", []),
    ],
)
def test_documentation_is_split_where_a_reader_would(text, wanted):
    """Abbreviations, dotted names, versions and bullets do not mislead the splitter."""
    assert sentences(text) == wanted


@given(st.text(alphabet="ab.AB!? \n-1(e.g)>", max_size=120))
def test_sentences_are_slices_and_leave_only_space(text):
    """Spans are in order, never overlap, are never blank, and lose nothing but white space."""
    spans = sentence_spans(text)
    rest, place = "", 0

    for start, end in spans:
        assert place <= start < end
        assert text[start:end] == text[start:end].strip()
        rest += text[place:start]
        place = end

    assert (rest + text[place:]).strip() == ""
