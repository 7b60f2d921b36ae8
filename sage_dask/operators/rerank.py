"""The stage that puts retrieved passages in a better order and keeps the best."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from sage_dask.errors import PlanError, did_you_mean, listed
from sage_dask.operators.arrays import FloatArray, finite_array
from sage_dask.operators.connection import at_once
from sage_dask.operators.models import MINILM, load_cross_encoder, load_embedder
from sage_dask.operators.remote import Remote
from sage_dask.operators.remote_scorer import RemoteScorer
from sage_dask.operators.retrieval.manifest import Manifest
from sage_dask.operators.retrieval.passage_index import PassageIndex
from sage_dask.operators.retrieval.passages import Passage
from sage_dask.operators.retrieval.scorers import (
    Bm25,
    Candidates,
    CrossEncoded,
    EncodedMaxSim,
    FusedRanks,
    Scorer,
    StoredMaxSim,
)
from sage_dask.operators.shared import ProcessCache, faults_apart, ready, text_fault
from sage_dask.record import Outcome, Record

_caching_scorers: ProcessCache[EncodedMaxSim] = ProcessCache()


@dataclass
class Rerank(Remote):
    """Score each record's passages again, sort them best first and keep ``k``.

    With an ``endpoint``, a server's ``/rerank`` scores them.

    A passage gains ``rerank_score`` and keeps the ``score`` and ``rank`` of its
    retrieval; equal scores keep the retrieval's order.
    """

    k: int = 5
    """Passages kept."""
    query: str = "question"
    """Field that holds the query's text."""
    passages: str = "passages"
    """Field that holds the passages; replaced by those kept."""
    method: str = "maxsim"
    """``"maxsim"``, ``"cross-encoder"``, ``"bm25"`` (among the passages) or ``"rrf"``
    (fuses the retrieval's order with that of BM25).  Used without an endpoint."""
    model: str = MINILM
    """Embedding model for ``maxsim``, or the name of a cross-encoder; with an ``endpoint``, the
    model's name as the server knows it."""
    index: str | None = None
    """The index that ``Retrieve`` searched, for ``maxsim``: its stored token vectors are used,
    so that passages need not be encoded.  A passage brings only its row, which means nothing
    without the index; hence the path is given here."""
    query_tokens: str | None = None
    """Field that holds the query's token vectors (``Embed(tokens_into=...)``), for ``maxsim``;
    None encodes the query again."""
    cache_size: int = 1024
    """Passages whose token vectors a process keeps where ``index`` is not given; 150 kB each."""
    threads: int = 1
    """Torch threads of the worker process."""
    _scorer: Scorer | None = field(init=False, repr=False, compare=False, default=None)
    _remote: RemoteScorer | None = field(init=False, repr=False, compare=False, default=None)

    _not_extra: ClassVar[frozenset[str]] = frozenset({"model", "query", "documents", "top_n"})

    @property
    def imports(self) -> Sequence[str]:
        """The library of models, for the methods that have one."""
        needs_model = self.endpoint is None and self.method in ("maxsim", "cross-encoder")
        return ("sentence_transformers",) if needs_model else ()

    @property
    def reads(self) -> Sequence[str]:
        """The query, its passages, and its token vectors if they are named."""
        tokens = () if self.query_tokens is None else (self.query_tokens,)
        return (self.query, self.passages, *tokens)

    @property
    def writes(self) -> Sequence[str]:
        """The passages."""
        return (self.passages,)

    @property
    def immaterial(self) -> tuple[str, ...]:
        """What is kept in memory and how many threads compute, beside what all have."""
        return (*super().immaterial, "cache_size", "threads")

    def known_by(self) -> Mapping[str, object]:
        """Return the index by what it holds."""
        index = {} if self.index is None else {"index": Manifest.read(Path(self.index)).told()}
        return {**super().known_by(), **index}

    def check(self) -> None:
        """Refuse an unknown method, and options that do not go together."""
        super().check()
        if self.method not in _SCORERS:
            raise PlanError(
                f"Rerank: method={self.method!r} is unknown; use one of {listed(_SCORERS)}"
                f"{did_you_mean(self.method, _SCORERS)}"
            )
        for option, value in (("k", self.k), ("cache_size", self.cache_size)):
            if value < 1:
                raise PlanError(f"Rerank: {option}={value} must be at least 1")
        if self.method == "cross-encoder" and self.model == MINILM:
            raise PlanError(
                f"Rerank: {MINILM!r} embeds and is no cross-encoder; give the name of one, "
                "such as model='cross-encoder/ms-marco-MiniLM-L6-v2'"
            )
        for option in ("index", "query_tokens"):
            if getattr(self, option) is not None and self.endpoint is not None:
                raise PlanError(
                    f"Rerank: {option}= is for scoring here, and the server at {self.endpoint!r} "
                    "would not use it; leave one of the two out"
                )
            if getattr(self, option) is not None and self.method != "maxsim":
                raise PlanError(
                    f"Rerank: {option}= is for method='maxsim' and method={self.method!r} "
                    "would not use it; leave it out"
                )
        if self.index is not None:
            self._check_index(self.index)

    def _check_index(self, index: str) -> None:
        manifest = Manifest.read(Path(index))
        if manifest.num_tokens is None:
            raise PlanError(
                f"Rerank: index {index!r} holds no token vectors; build it with tokens=..., "
                "or leave index= out to encode passages as they come"
            )
        if manifest.model != self.model:
            raise PlanError(
                f"Rerank: index {index!r} holds token vectors of {manifest.model!r}, which can "
                f"not be compared with those of {self.model!r}; use model={manifest.model!r}"
            )

    def setup(self) -> None:
        """Load the model and open the index, once per process, or connect to a server."""
        if self.endpoint is None:
            self._scorer = _SCORERS[self.method](self)
        else:
            self._remote = RemoteScorer(self.connect(), self.model, self.extra)

    def process_batch(
        self, records: Sequence[Record]
    ) -> Sequence[Outcome] | Awaitable[Sequence[Outcome]]:
        """Score the passages of all records together; waiting for a server is a coroutine.

        Raises:
            StopRun: The server would refuse every other query as well.
        """
        if self.is_async:
            return self._score_all(ready(self._remote, self), records)
        return faults_apart(records, self._fault, self._reranked)

    def teardown(self) -> None:
        """Let go the model, which the process keeps for other stages, or the connection."""
        self._scorer = self._remote = None
        super().teardown()

    async def _score_all(
        self, remote: RemoteScorer, records: Sequence[Record]
    ) -> Sequence[Outcome]:
        return await at_once(lambda record: self._scored(remote, record), records)

    async def _scored(self, remote: RemoteScorer, record: Record) -> Record:
        if fault := self._fault(record):
            raise fault
        passages = record[self.passages]
        scores = await remote.score(record[self.query], [each["text"] for each in passages])
        return {**record, self.passages: _best(passages, scores, self.k)}

    def _fault(self, record: Record) -> Exception | None:
        passages = record.get(self.passages)
        if not isinstance(passages, list) or not all(map(_is_passage, passages)):
            return ValueError(
                f"Rerank: field {self.passages!r} must hold a list of passages with a 'text', "
                f"found {type(passages).__name__}; does Retrieve write another field?"
            )
        if self.index is not None and not all("row" in passage for passage in passages):
            return ValueError(
                "Rerank: with index= passages need the 'row' that Retrieve gives them; "
                "leave index= out for passages from elsewhere"
            )
        if self.query_tokens is not None:
            try:
                finite_array(record.get(self.query_tokens), self.query_tokens, ndim=2)
            except ValueError as error:
                return error
        return text_fault(record, self.query, self)

    def _reranked(self, records: Sequence[Record]) -> list[Record]:
        scores = ready(self._scorer, self).score([self._candidates(record) for record in records])
        return [
            {**record, self.passages: _best(record[self.passages], some, self.k)}
            for record, some in zip(records, scores, strict=True)
        ]

    def _candidates(self, record: Record) -> Candidates:
        tokens = None
        if self.query_tokens is not None:
            tokens = finite_array(record[self.query_tokens], self.query_tokens, ndim=2)
        return Candidates(record[self.query], record[self.passages], tokens)


def _maxsim(stage: Rerank) -> Scorer:
    embedder = load_embedder(stage.model, threads=stage.threads)
    if stage.index is not None:
        return StoredMaxSim(embedder, PassageIndex.load(stage.index))
    # Stages of one process share what was encoded, as they share the model.
    return _caching_scorers.get(
        (stage.model, stage.cache_size), lambda: EncodedMaxSim(embedder, stage.cache_size)
    )


def _cross_encoder(stage: Rerank) -> Scorer:
    return CrossEncoded(load_cross_encoder(stage.model, threads=stage.threads))


_SCORERS: dict[str, Callable[[Rerank], Scorer]] = {
    "maxsim": _maxsim,
    "cross-encoder": _cross_encoder,
    "bm25": lambda _: Bm25(),
    "rrf": lambda _: FusedRanks(),
}


def _is_passage(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("text"), str)


def _best(passages: Sequence[Passage], scores: FloatArray, k: int) -> list[Passage]:
    """Return the ``k`` best passages with their scores; equal ones in the order given."""
    order = np.argsort(-scores, kind="stable")[:k].tolist()
    return [{**passages[place], "rerank_score": float(scores[place])} for place in order]
