"""Ways to score the candidates of a query: late interaction, a cross-encoder, words, ranks."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from sage_dask.operators.arrays import FloatArray
from sage_dask.operators.models import CrossEncoder, Embedder
from sage_dask.operators.retrieval.lexical import bm25_scores, reciprocal_rank_fusion
from sage_dask.operators.retrieval.passage_index import PassageIndex
from sage_dask.operators.retrieval.passages import Passage
from sage_dask.operators.retrieval.tokens import max_similarity


@dataclass(frozen=True, slots=True)
class Candidates:
    """What one query found, to be put in order."""

    query: str
    passages: Sequence[Passage]
    """In the order of the retrieval."""
    query_tokens: FloatArray | None = None
    """Token vectors of the query, shape ``(t, d)``, where an earlier stage kept them."""

    @property
    def texts(self) -> list[str]:
        """The text of each passage."""
        return [passage["text"] for passage in self.passages]


class Scorer(Protocol):
    """Scores the candidates of several queries at once; safe from several threads."""

    def score(self, asked: Sequence[Candidates]) -> list[FloatArray]:
        """Return for each query one score per passage; higher is better."""
        ...


class TokenCache:
    """Token vectors of the passages that came up last, so that none is encoded twice."""

    def __init__(self, embedder: Embedder, size: int) -> None:
        self._embedder = embedder
        self._size = size
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, FloatArray] = OrderedDict()

    def vectors(self, texts: Sequence[str]) -> list[FloatArray]:
        """Return the token vectors of each text, shape ``(t_i, d)``."""
        found = self._look_up(texts)
        missing = [text for text in dict.fromkeys(texts) if text not in found]
        if missing:
            fresh = dict(zip(missing, self._embedder.encode_tokens(missing)[1], strict=True))
            self._keep(fresh)
            found |= fresh
        return [found[text] for text in texts]

    def _look_up(self, texts: Sequence[str]) -> dict[str, FloatArray]:
        with self._lock:
            found = {text: self._kept[text] for text in texts if text in self._kept}
            for text in found:
                self._kept.move_to_end(text)
            return found

    def _keep(self, fresh: dict[str, FloatArray]) -> None:
        with self._lock:
            self._kept.update(fresh)
            while len(self._kept) > self._size:
                self._kept.popitem(last=False)

    def __len__(self) -> int:
        return len(self._kept)


class EncodedMaxSim:
    """Late interaction with passages that are encoded as they come."""

    def __init__(self, embedder: Embedder, cache_size: int) -> None:
        self._embedder = embedder
        self._cache = TokenCache(embedder, cache_size)

    def score(self, asked: Sequence[Candidates]) -> list[FloatArray]:
        """Sum, over the query's tokens, the best cosine with a token of the passage."""
        queries = query_tokens(self._embedder, asked)
        # All passages of the batch in one call: they share forward passes.
        tokens = self._cache.vectors([text for one in asked for text in one.texts])
        ends = np.cumsum([len(one.passages) for one in asked]).tolist()
        return [
            max_similarity(query, tokens[end - len(one.passages) : end])
            for query, one, end in zip(queries, asked, ends, strict=True)
        ]


class StoredMaxSim:
    """Late interaction with the token vectors that the index holds."""

    def __init__(self, embedder: Embedder, index: PassageIndex) -> None:
        self._embedder = embedder
        self._index = index

    def score(self, asked: Sequence[Candidates]) -> list[FloatArray]:
        """Sum, over the query's tokens, the best cosine with a token of the passage."""
        codec = self._index.tokens.codec
        return [
            max_similarity(codec.query(query), self._index.token_codes(self._rows(one.passages)))
            for query, one in zip(query_tokens(self._embedder, asked), asked, strict=True)
        ]

    def _rows(self, passages: Sequence[Passage]) -> list[int]:
        """Return where passages stand in the index; a row of another index would score nonsense."""
        rows = [passage["row"] for passage in passages]
        for passage, row in zip(passages, rows, strict=True):
            stored = self._index.passages[row]["id"]
            if stored != passage.get("id"):
                raise ValueError(
                    f"passage {passage.get('id')!r} claims row {row}, where index "
                    f"{str(self._index.path)!r} holds {stored!r}; give Rerank the index that "
                    "Retrieve searched, or leave index= out"
                )
        return rows


class CrossEncoded:
    """A model that reads query and passage together."""

    def __init__(self, encoder: CrossEncoder) -> None:
        self._encoder = encoder

    def score(self, asked: Sequence[Candidates]) -> list[FloatArray]:
        """Score all pairs of the batch in one call."""
        pairs = [(one.query, text) for one in asked for text in one.texts]
        ends = np.cumsum([len(one.passages) for one in asked])
        return np.split(self._encoder.score(pairs), ends[:-1])


class Bm25:
    """Shared words, weighed among the candidates of the query."""

    def score(self, asked: Sequence[Candidates]) -> list[FloatArray]:
        """Score each query's candidates by BM25."""
        return [bm25_scores(one.query, one.texts) for one in asked]


class FusedRanks:
    """The retrieval's order and that of BM25, fused by reciprocal rank."""

    def score(self, asked: Sequence[Candidates]) -> list[FloatArray]:
        """Fuse both orders of each query's candidates."""
        return [self._fused(one) for one in asked]

    def _fused(self, one: Candidates) -> FloatArray:
        by_words = bm25_scores(one.query, one.texts)
        # A passage without a shared word has no rank among the words, rather than the last one.
        ranked = [place for place in np.argsort(-by_words, kind="stable") if by_words[place] > 0]
        scores = np.zeros(len(one.passages), dtype=np.float32)
        for place, score in reciprocal_rank_fusion([range(len(one.passages)), ranked]):
            scores[place] = score
        return scores


def query_tokens(embedder: Embedder, asked: Sequence[Candidates]) -> list[FloatArray]:
    """Return the token vectors of each query, encoding those that did not bring theirs."""
    missing = [one.query for one in asked if one.query_tokens is None]
    fresh = iter(embedder.encode_tokens(missing)[1])
    return [next(fresh) if one.query_tokens is None else one.query_tokens for one in asked]
