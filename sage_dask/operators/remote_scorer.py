"""Scores from a server's ``/rerank``: one request per query and its passages.

The form is that of Jina and Cohere, which vLLM speaks too: ``query`` and
``documents`` go, ``{"results": [{"index": 0, "relevance_score": 0.9}, ...]}`` comes back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sage_dask.completion import CompletionError
from sage_dask.operators.arrays import FloatArray
from sage_dask.operators.connection import Connection
from sage_dask.operators.generation.request import estimated_tokens


@dataclass(frozen=True, slots=True)
class RemoteScorer:
    """Scores passages by requests; one instance per worker process."""

    connection: Connection
    model: str
    extra: Mapping[str, Any] = field(default_factory=dict)

    async def score(self, query: str, texts: Sequence[str]) -> FloatArray:
        """Return how well each text answers a query, shape ``(n,)``; higher is better.

        Raises:
            CompletionError: The server refused these texts, or did not score each of them.
            StopRun: No others would get scores, either.
        """
        if not texts:
            return np.empty(0, dtype=np.float32)
        answer, _ = await self.connection.ask(
            "rerank",
            {"model": self.model, "query": query, "documents": list(texts), **self.extra},
            # A cross-encoder reads the query once with each text.
            tokens=sum(map(estimated_tokens, texts)) + len(texts) * estimated_tokens(query),
        )
        return read_scores(answer.body, len(texts))


def read_scores(body: Any, number: int) -> FloatArray:
    """Return the scores of an answer in the order of the texts, shape ``(number,)``.

    Raises:
        CompletionError: A text has no score, more than one, or one that is no finite number.
    """
    try:
        given = {each["index"]: float(each["relevance_score"]) for each in body["results"]}
        scores = np.array([given[place] for place in range(number)], dtype=np.float32)
        is_whole = len(body["results"]) == number and bool(np.isfinite(scores).all())
    except (LookupError, TypeError, ValueError):
        is_whole = False
    if not is_whole:
        raise CompletionError(
            f"the model server's answer to /rerank does not score each of {number} texts once; "
            "see that model=... is a reranker, and that extra=... does not ask for fewer"
        )
    return scores
