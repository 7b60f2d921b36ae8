"""Embeddings and reranking by the words that texts share: no model, but not quite noise.

A text's vector is the sum of its words' places in a hashed space, so texts with
common words lie near each other, in every process alike.
"""

from __future__ import annotations

import base64
import math
import re
import time
import zlib
from array import array
from collections.abc import Mapping, Sequence
from typing import Any

from sage_dask.cluster.timed_server.asking import check_body, check_length
from sage_dask.cluster.timed_server.options import TimedOptions
from sage_dask.cluster.timed_server.refusal import invalid
from sage_dask.cluster.timed_server.text import num_tokens

_WORD = re.compile(r"\w+")

# Places of the space that a word takes; more make collisions matter less.
_PLACES = 4


def vector(text: str, size: int) -> list[float]:
    """Return a text's vector, of unit length; a text without words has a place too."""
    values = [0.0] * size
    for word in _WORD.findall(text.lower()) or [text]:
        for place in range(_PLACES):
            drawn = zlib.crc32(f"{place}{word}".encode())
            values[(drawn >> 1) % size] += 1.0 if drawn & 1 else -1.0
    length = math.hypot(*values)
    return [value / length for value in values] if length else [1.0] + [0.0] * (size - 1)


def overlap(query: str, document: str) -> float:
    """Return the share of a query's words that a document has, 0 to 1."""
    words = set(_WORD.findall(query.lower()))
    return len(words & set(_WORD.findall(document.lower()))) / max(1, len(words))


def read_texts(body: Any, options: TimedOptions) -> list[str]:
    """Return the texts to embed.

    Raises:
        RefusalError: There is none, or one is too long.
    """
    check_body(body, options)
    texts = body.get("input")
    texts = [texts] if isinstance(texts, str) else texts
    if not isinstance(texts, list) or not all(isinstance(each, str) for each in texts):
        raise invalid("body.input", "missing", "Field required")
    for text in texts:
        check_length(num_tokens(text), options)
    return texts


def embeddings(
    body: Mapping[str, Any], texts: Sequence[str], options: TimedOptions
) -> dict[str, Any]:
    """Return the answer of ``/v1/embeddings``."""
    is_packed = body.get("encoding_format") == "base64"
    size = int(body.get("dimensions") or options.embedding_size)
    rows = (vector(text, size) for text in texts)
    return {
        "id": f"embd-{time.time_ns():x}",
        "object": "list",
        "created": int(time.time()),
        "model": options.model,
        "data": [
            {"index": i, "object": "embedding", "embedding": _packed(row) if is_packed else row}
            for i, row in enumerate(rows)
        ],
        "usage": _usage(texts) | {"completion_tokens": 0, "prompt_tokens_details": None},
    }


def read_documents(body: Any, options: TimedOptions) -> tuple[str, list[str]]:
    """Return a query, and the documents to compare with it.

    Raises:
        RefusalError: One of the two is missing, or too long.
    """
    check_body(body, options)
    for name, kind in (("query", str), ("documents", list)):
        if not isinstance(body.get(name), kind):
            raise invalid(f"body.{name}", "missing", "Field required")
    documents = [
        str(each.get("text") if isinstance(each, Mapping) else each) for each in body["documents"]
    ]
    for document in documents:
        check_length(num_tokens(body["query"]) + num_tokens(document), options)
    return body["query"], documents


def ranking(
    body: Mapping[str, Any], query: str, documents: Sequence[str], options: TimedOptions
) -> dict[str, Any]:
    """Return the answer of ``/v1/rerank``: best first, equal ones as they came."""
    scores = [overlap(query, document) for document in documents]
    order = sorted(range(len(documents)), key=lambda i: -scores[i])
    return {
        "id": f"score-{time.time_ns():x}",
        "model": options.model,
        "usage": _usage([query, *documents]),
        "results": [
            {
                "index": i,
                "document": {"text": documents[i], "multi_modal": None},
                "relevance_score": scores[i],
            }
            for i in order[: body.get("top_n") or len(order)]
        ],
    }


def _usage(texts: Sequence[str]) -> dict[str, Any]:
    tokens = sum(map(num_tokens, texts))
    return {"prompt_tokens": tokens, "total_tokens": tokens}


def _packed(row: Sequence[float]) -> str:
    """Return little-endian float32 as base64, which is what OpenAI's client asks for."""
    return base64.b64encode(array("f", row).tobytes()).decode()
