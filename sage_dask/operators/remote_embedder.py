"""Vectors from a server's ``/embeddings``, several texts in one request.

The server's answer has OpenAI's form: ``{"data": [{"index": 0, "embedding": [...]}, ...]}``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sage_dask.completion import CompletionError
from sage_dask.endpoint.caller import Answer
from sage_dask.errors import StopRun
from sage_dask.operators.arrays import FloatArray, unit_rows
from sage_dask.operators.connection import Connection, at_once
from sage_dask.operators.generation.request import estimated_tokens


@dataclass(slots=True)
class RemoteEmbedder:
    """Embeds texts by requests; one instance per worker process."""

    connection: Connection
    model: str
    request_size: int = 32
    """Texts per request."""
    normalize: bool = True
    extra: Mapping[str, Any] = field(default_factory=dict)
    _dimension: int | None = field(init=False, default=None)

    async def encode(self, texts: Sequence[str]) -> list[FloatArray | Exception]:
        """Embed texts, all requests at the same time.

        Returns:
            For each text its vector, shape ``(d,)``, float32, or why it has none.

        Raises:
            StopRun: No other text would get one, or vectors are of different widths.
        """
        size = self.request_size
        return await self._all([texts[at : at + size] for at in range(0, len(texts), size)])

    async def _all(self, parts: Sequence[Sequence[str]]) -> list[FloatArray | Exception]:
        """Embed several parts at the same time; what fails a part fails each of its texts."""
        answers = await at_once(self._encoded, parts)
        return [
            vector
            for part, answer in zip(parts, answers, strict=True)
            for vector in ([answer] * len(part) if isinstance(answer, Exception) else answer)
        ]

    async def _encoded(self, texts: Sequence[str]) -> Sequence[FloatArray | Exception]:
        """Embed the texts of one request, halved until those that fail it stand alone."""
        try:
            answer = await self._asked(texts)
        except CompletionError:
            # An outage is waited for and does not come here: it is one of the texts.
            if len(texts) == 1:
                raise
            middle = len(texts) // 2
            return await self._all([texts[:middle], texts[middle:]])
        vectors = read_vectors(answer.body, len(texts))
        self._check_width(vectors.shape[1], answer.endpoint)
        return list(unit_rows(vectors) if self.normalize else vectors)

    async def _asked(self, texts: Sequence[str]) -> Answer:
        body = {"model": self.model, "input": list(texts), **self.extra}
        tokens = sum(map(estimated_tokens, texts))
        answer, _ = await self.connection.ask("embeddings", body, tokens=tokens)
        return answer

    def _check_width(self, width: int, endpoint: str) -> None:
        """Refuse to go on with vectors that can not be compared with those before."""
        if self._dimension is None:
            self._dimension = width
        if width != self._dimension:
            raise StopRun(
                f"model server {endpoint} gave vectors of width {width}, and width "
                f"{self._dimension} came before; let all replicas of endpoint=... serve one model"
            )


def read_vectors(body: Any, number: int) -> FloatArray:
    """Return the vectors of an answer in the order of the texts, shape ``(number, d)``.

    Raises:
        CompletionError: They are not as many, of different widths, or not finite.
    """
    try:
        data = sorted(body["data"], key=lambda each: each["index"])
        vectors = np.array([each["embedding"] for each in data], dtype=np.float32)
        places = [each["index"] for each in data]
    except (LookupError, TypeError, ValueError):
        raise CompletionError(
            "the model server's answer to /embeddings is no list of vectors of one width; "
            "see that model=... is an embedding model"
        ) from None
    if places != list(range(number)) or vectors.ndim != 2 or not np.isfinite(vectors).all():
        raise CompletionError(
            f"the model server gave vectors of shape {vectors.shape} for {number} texts, and one "
            "of finite numbers for each is wanted; see that model=... is an embedding model"
        )
    return vectors
