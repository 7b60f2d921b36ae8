"""Quoted answers: literal, cited, repeatable."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sage_dask.completion import CompletionError
from sage_dask.operators.generation.extractive import ExtractiveAnswerer, lexical_overlap
from sage_dask.testing import FakeClock

PASSAGES = [
    {"id": "zip", "text": "Archives are read with zipfile. It is part of the library."},
    {"id": "json", "text": "A JSON document is parsed by json.loads. It returns plain objects."},
]
WORDS = st.sampled_from(["parse", "json", "file", "read", "the", "an", "archive", "e.g.", "it"])
SENTENCE = st.lists(WORDS, min_size=1, max_size=9).map(lambda words: " ".join(words) + ". ")
TEXT = st.lists(SENTENCE, max_size=5).map("".join)


class FakeEncoder:
    """Gives each text the similarity to the question of the first word it holds, by hand."""

    def __init__(self, **similarity_of):
        self.similarity_of = similarity_of

    def encode(self, texts):
        similar = [self._similarity(text) for text in texts]
        return np.array([[s, (1 - s * s) ** 0.5] for s in similar], dtype=np.float32)

    def _similarity(self, text):
        return next((s for word, s in self.similarity_of.items() if word in text), 0.0)


def test_the_sentence_with_the_questions_words_is_quoted():
    """Rare shared words decide, over the rank of the passage."""
    answer = ExtractiveAnswerer().answer("How is a JSON document parsed?", PASSAGES)

    assert answer.text == "A JSON document is parsed by json.loads."
    assert answer.sources == ("json",)
    assert answer.model == "extractive-lexical"


def test_meaning_outweighs_words():
    """A sentence of the same meaning beats one that repeats the question's words."""
    answerer = ExtractiveAnswerer(FakeEncoder(unpack=1.0, Archives=1.0))

    answer = answerer.answer("unpack a document", PASSAGES)

    assert answer.text == "Archives are read with zipfile."
    assert answer.model == "extractive"


def test_equal_sentences_go_by_their_place():
    """Where nothing tells two sentences of a passage apart, the first is quoted."""
    passages = [{"id": "a", "text": "Stop it with a call to close. End it with a call to close."}]

    chosen = ExtractiveAnswerer(most_sentences=1).select("How to close?", passages)

    assert [sentence.text for sentence in chosen] == ["Stop it with a call to close."]


@pytest.mark.parametrize(("similarity", "wanted"), [(0.7, "a"), (0.9, "b")])
def test_rank_counts_for_a_little(similarity, wanted):
    """The better passage beats a slightly better sentence, and not a clearly better one."""
    passages = [
        {"id": "a", "text": "The first one says something."},
        {"id": "b", "text": "The other one says something."},
    ]
    answerer = ExtractiveAnswerer(FakeEncoder(why=1.0, first=0.6, other=similarity), 1)

    assert answerer.answer("why", passages).sources == (wanted,)


def test_sentences_are_quoted_in_reading_order():
    """Near equals are quoted together, in the order of the text and not of their scores."""
    text = "The first one says something. The other one says something. Nothing fits here at all."
    answerer = ExtractiveAnswerer(FakeEncoder(why=1.0, first=0.85, other=0.9))

    answer = answerer.answer("why", [{"id": "a", "text": text}])

    assert answer.text == "The first one says something. The other one says something."


def test_latency_is_read_from_the_clock():
    """The time between asking and answering is reported."""
    clock = FakeClock()

    class SlowEncoder(FakeEncoder):
        def encode(self, texts):
            clock.advance(2.0)
            return super().encode(texts)

    answer = ExtractiveAnswerer(SlowEncoder(), clock=clock).answer("Why?", PASSAGES)

    assert answer.latency_s == 2.0


@pytest.mark.parametrize(
    "passages", [[], [{"id": "p", "text": ""}], [{"id": "p", "text": "Too short"}]]
)
def test_nothing_to_quote_is_an_error(passages):
    """No answer is made up where the passages hold none."""
    with pytest.raises(CompletionError, match="no sentence"):
        ExtractiveAnswerer().answer("Why?", passages)


@given(TEXT, st.lists(TEXT, min_size=1, max_size=4))
def test_every_sentence_is_literally_in_a_cited_passage(question, texts):
    """An answer is made of one to three quotations from the passages that it cites."""
    passages = [{"id": f"p{place}", "text": text} for place, text in enumerate(texts)]
    text_of = {passage["id"]: passage["text"] for passage in passages}
    answerer = ExtractiveAnswerer()
    try:
        answer = answerer.answer(question, passages)
    except CompletionError:
        return

    chosen = answerer.select(question, passages)

    assert 1 <= len(chosen) <= 3
    assert answer.text == " ".join(sentence.text for sentence in chosen)
    assert {sentence.passage_id for sentence in chosen} == set(answer.sources)
    assert all(sentence.text in text_of[sentence.passage_id] for sentence in chosen)


@given(TEXT, st.lists(TEXT, min_size=1, max_size=4))
def test_overlap_is_a_share(question, texts):
    """Shares lie between none and all of the question's words, and the question has all."""
    shares = lexical_overlap(question, [question, *texts])

    assert shares.shape == (len(texts) + 1,)
    assert ((shares >= 0) & (shares <= 1.000001)).all()
    assert shares[0] == max(shares)


def test_words_match_in_their_other_forms():
    """Plural and participle count as the same word."""
    shares = lexical_overlap("parsing files", ["it parsed a file", "it wrote a list"])

    assert shares[0] == pytest.approx(1.0)
    assert shares[1] == 0.0


@pytest.mark.rag
def test_answers_repeat_with_the_real_model():
    """Two answers to one question are equal with the embedding model."""
    answerer = ExtractiveAnswerer.load("minilm")

    first = answerer.select("How do I read an archive?", PASSAGES)

    assert first == answerer.select("How do I read an archive?", PASSAGES)
    assert first[0].passage_id == "zip"
