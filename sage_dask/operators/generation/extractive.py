"""Answers without a language model: the passages' own sentences that fit the question best.

Every sentence of an answer is quoted from a passage that the answer cites, so
it can be checked; nothing is made up, and nothing is put into words either.
"""

from __future__ import annotations

import math
import re
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from sage_dask.completion import Completion, CompletionError
from sage_dask.operators.arrays import FloatArray
from sage_dask.operators.generation.context import passage_text
from sage_dask.operators.generation.sentences import sentences
from sage_dask.operators.models import load_embedder

_WORD = re.compile(r"[A-Za-z0-9]+")
# Endings that change a word's form and not its subject ("parse", "parsed", "parsing").
_ENDING = re.compile(r"(?<=\w{3})(?:ing|ed|es|s|e)\Z")

# Meaning counts more than wording; wording decides between near equals and finds names that
# an embedder has never seen.
_LEXICAL_WEIGHT = 0.35
# What the first passage is ahead of the last: the reranker saw whole passages, we see sentences.
_RANK_WEIGHT = 0.15
# A further sentence must be nearly as good as the best one, or it dilutes the answer.
_MARGIN = 0.1
# Bounds the cost of one answer; five passages of 120 words have about thirty sentences.
_MOST_CANDIDATES = 48
# Sentences that are embedded, chosen by words and rank: embedding is nearly all of the cost.
# Over 100 questions of the demo, 8 cited the relevant passage 56 times and 48 did 57 times,
# at three times the cost.
_SHORTLIST = 8
# Shorter pieces are headings and bare signatures.
_FEWEST_WORDS = 4


class Encoder(Protocol):
    """Turns texts into unit vectors, shape ``(n, d)``, float32."""

    def encode(self, texts: Sequence[str]) -> FloatArray:
        """Embed texts, in order."""
        ...


@dataclass(frozen=True, slots=True)
class Sentence:
    """One candidate: a literal piece of a passage."""

    text: str
    passage_id: str
    rank: int
    """0-based place of its passage."""


@dataclass(frozen=True)
class ExtractiveAnswerer:
    """Quote the one to three sentences that answer best; equal input, equal answer."""

    encoder: Encoder | None = None
    """None compares words alone, and the answers' ``model`` says so."""
    most_sentences: int = 3
    clock: Callable[[], float] = field(default=time.perf_counter, repr=False)

    @classmethod
    def load(cls, embedder: str | None) -> ExtractiveAnswerer:
        """Return an answerer with the named embedding model, or without one."""
        return cls(None if embedder is None else load_embedder(embedder))

    @property
    def name(self) -> str:
        """What answers name as their model."""
        return "extractive" if self.encoder is not None else "extractive-lexical"

    def answer(self, question: str, passages: Sequence[Any]) -> Completion:
        """Answer a question from its passages.

        Args:
            question: A question, or any text.
            passages: Mappings with ``id`` and ``text``, or plain strings; best first.

        Raises:
            CompletionError: The passages hold no sentence to quote.
        """
        started = self.clock()
        chosen = self.select(question, passages)
        return Completion(
            text=" ".join(sentence.text for sentence in chosen),
            model=self.name,
            finish_reason="stop",
            latency_s=self.clock() - started,
            sources=tuple(dict.fromkeys(sentence.passage_id for sentence in chosen)),
        )

    def select(self, question: str, passages: Sequence[Any]) -> list[Sentence]:
        """Return the sentences to quote, in the order in which they are read.

        Raises:
            CompletionError: The passages hold no sentence to quote.
        """
        candidates = _candidates(passages)[:_MOST_CANDIDATES]
        if not candidates:
            raise CompletionError(
                f"{len(passages)} passages hold no sentence to answer from; "
                "give Generate passages with text, such as Retrieve and Rerank write"
            )
        scores = _by_words(question, candidates)
        if self.encoder is not None:
            places = sorted(_best_first(scores)[:_SHORTLIST])
            candidates = [candidates[place] for place in places]
            scores = _by_meaning(question, candidates, self.encoder)
        best = _best_first(scores)
        bar = scores[best[0]] - _MARGIN
        kept = [place for place in best[: self.most_sentences] if scores[place] >= bar]
        return [candidates[place] for place in sorted(kept)]


def _by_words(question: str, candidates: Sequence[Sentence]) -> list[float]:
    """Return how well each candidate's words fit the question; higher is better."""
    return _with_prior(lexical_overlap(question, _texts(candidates)), candidates)


def _by_meaning(question: str, candidates: Sequence[Sentence], encoder: Encoder) -> list[float]:
    """Return how well each candidate fits the question in meaning and words."""
    texts = _texts(candidates)
    vectors = encoder.encode([question, *texts])
    meaning = vectors[1:] @ vectors[0]
    words = lexical_overlap(question, texts)
    return _with_prior(_LEXICAL_WEIGHT * words + (1.0 - _LEXICAL_WEIGHT) * meaning, candidates)


def _with_prior(fit: FloatArray, candidates: Sequence[Sentence]) -> list[float]:
    """Return scores in which sentences of earlier passages are ahead."""
    last = max(candidates[-1].rank, 1)
    prior = np.array([1.0 - sentence.rank / last for sentence in candidates])
    # Rounding lets near-equal sums tie, so that reading order decides on every machine.
    scores: list[float] = np.round(fit + _RANK_WEIGHT * prior, 6).tolist()
    return scores


def _best_first(scores: Sequence[float]) -> list[int]:
    """Return places by score, best first; equal scores in reading order."""
    return sorted(range(len(scores)), key=lambda place: (-scores[place], place))


def _texts(candidates: Sequence[Sentence]) -> list[str]:
    return [sentence.text for sentence in candidates]


def lexical_overlap(question: str, texts: Sequence[str]) -> FloatArray:
    """Return the share of the question's words that each text holds, rare words counting more.

    Weights are inverse document frequencies over the texts themselves, so a
    word that all of them hold tells them apart no more.

    Returns:
        Shares from 0 to 1, shape ``(n,)``.
    """
    wanted = set(_terms(question))
    bags = [set(_terms(text)) & wanted for text in texts]
    held_by = Counter(term for bag in bags for term in bag)
    weights = {term: math.log(1.0 + len(texts) / (1 + held_by[term])) for term in sorted(wanted)}
    total = sum(weights.values()) or 1.0
    shares = [sum(weights[term] for term in sorted(bag)) / total for bag in bags]
    return np.array(shares, dtype=np.float32)


def _candidates(passages: Sequence[Any]) -> list[Sentence]:
    """Return the sentences of all passages in reading order, each wording once."""
    seen: dict[str, Sentence] = {}
    for rank, passage in enumerate(passages):
        for text in sentences(passage_text(passage)):
            if len(_WORD.findall(text)) >= _FEWEST_WORDS:
                seen.setdefault(text, Sentence(text, _id(passage, rank), rank))
    return list(seen.values())


def _id(passage: Any, rank: int) -> str:
    """Return the id of a passage; one without is named by its number in the context."""
    return str(passage.get("id", rank + 1)) if isinstance(passage, Mapping) else str(rank + 1)


def _terms(text: str) -> list[str]:
    """Return the words of a text in lower case, without their endings."""
    return [_ENDING.sub("", word) for word in _WORD.findall(text.lower())]
