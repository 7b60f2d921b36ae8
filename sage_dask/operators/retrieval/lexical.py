"""Matching by words: BM25 over a corpus or over a few passages, and the fusion of rankings."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sage_dask.extras import require
from sage_dask.operators.arrays import FloatArray

BM25_FOLDER = "bm25"

_WORD = re.compile(r"\w+")

# The usual constants of BM25 (Robertson and Zaragoza, 2009), and bm25s's defaults.
_SATURATION = 1.5
_LENGTH_WEIGHT = 0.75

# From the paper that introduced the fusion (Cormack, Clarke and Buettcher, 2009).
_FUSION_CONSTANT = 60


def words(text: str) -> list[str]:
    """Return the words of a text, folded to one case; index and query must agree on them."""
    return _WORD.findall(text.casefold())


def bm25_scores(query: str, texts: Sequence[str]) -> FloatArray:
    """Score texts by BM25, with word frequencies counted among these texts only.

    Args:
        query: What is looked for.
        texts: Any number ``n`` of texts; made for a handful of candidates.

    Returns:
        Scores, shape ``(n,)``; 0 where no word is shared.
    """
    counts = [Counter(words(text)) for text in texts]
    lengths = np.array([count.total() for count in counts], dtype=np.float32)
    scores = np.zeros(len(texts), dtype=np.float32)
    if not lengths.any():
        return scores
    norm = _SATURATION * (1 - _LENGTH_WEIGHT + _LENGTH_WEIGHT * lengths / lengths.mean())
    for word in words(query):
        frequency = np.array([count[word] for count in counts], dtype=np.float32)
        found = np.count_nonzero(frequency)
        rarity = math.log(1 + (len(texts) - found + 0.5) / (found + 0.5))
        scores += rarity * frequency / (frequency + norm)
    return scores


def reciprocal_rank_fusion(rankings: Iterable[Sequence[int]]) -> list[tuple[int, float]]:
    """Merge rankings by the sum of ``1 / (60 + rank)``.

    Args:
        rankings: Each the rows it found, best first.

    Returns:
        Every row that any ranking found, with its score, best first; equal
        scores keep the order in which the rows first came up.
    """
    scores: dict[int, float] = {}
    for ranking in rankings:
        for rank, row in enumerate(ranking, start=1):
            scores[row] = scores.get(row, 0.0) + 1 / (_FUSION_CONSTANT + rank)
    return sorted(scores.items(), key=lambda item: -item[1])


def build_lexical(texts: Iterable[str], folder: Path) -> None:
    """Build the BM25 files of an index; holds the corpus's words in memory, as numbers."""
    vocabulary: dict[str, int] = {}
    ids = [[vocabulary.setdefault(word, len(vocabulary)) for word in words(text)] for text in texts]
    bm25s = _bm25s("building an index with bm25=True")
    ranker = bm25s.BM25(k1=_SATURATION, b=_LENGTH_WEIGHT)
    ranker.index((ids, vocabulary or {"": 0}), show_progress=False)
    ranker.save(str(folder / BM25_FOLDER), show_progress=False)


class LexicalIndex:
    """Search the BM25 files of one index; memory-mapped but for the vocabulary."""

    def __init__(self, folder: Path) -> None:
        bm25s = _bm25s("hybrid retrieval")
        self._ranker = bm25s.BM25.load(str(folder / BM25_FOLDER), mmap=True, show_progress=False)
        self._num_passages = int(self._ranker.scores["num_docs"])

    def search(self, query: str, k: int) -> list[int]:
        """Return the rows of the ``k`` best passages, of those that share a word with the query."""
        asked = [word for word in words(query) if word in self._ranker.vocab_dict]
        if not asked:
            return []
        scores = self._ranker.get_scores(asked)
        best = _largest(scores, min(k, self._num_passages))
        return [int(row) for row in best if scores[row] > 0]


def _largest(scores: FloatArray, k: int) -> Any:
    """Return where the ``k`` largest scores are, best first, equal ones by place."""
    top = np.argpartition(-scores, k - 1)[:k]
    return top[np.lexsort((top, -scores[top]))]


def _bm25s(needed_by: str) -> Any:
    return require("bm25s", extra="rag", needed_by=needed_by)
