"""The stage that finds passages for each record's vector."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sage_dask.errors import PlanError, StopRun
from sage_dask.operators.arrays import finite_array
from sage_dask.operators.retrieval.lexical import reciprocal_rank_fusion
from sage_dask.operators.retrieval.manifest import Manifest
from sage_dask.operators.retrieval.passage_index import PassageIndex
from sage_dask.operators.retrieval.passages import Passage
from sage_dask.operators.shared import Declared, faults_apart, ready, text_fault
from sage_dask.record import Outcome, Record
from sage_dask.stage import Operator

# Fusing looks this deep into both rankings; deeper ranks add less than 1 / 110 each.
_FUSION_DEPTH = 50

_Hit = tuple[int, float]


@dataclass
class Retrieve(Declared, Operator):
    """Add the passages nearest to each record's vector, best first.

    Each passage is a dict with its ``id``, its ``text``, the metadata it was
    indexed with, its ``score``, its ``rank`` from 1, and its ``row`` in the
    index.  The score is the inner product (the cosine, for the unit vectors
    that ``Embed`` writes), or the fused score with ``hybrid``.
    """

    index: str
    """Folder of an index, as every worker sees it."""
    k: int = 10
    """Passages wanted; an index that has fewer gives all."""
    vector: str = "embedding"
    """Field that holds the query's vector."""
    into: str = "passages"
    """Field for the list of passages."""
    ef: int | None = None
    """Candidates kept while walking an ``hnsw`` index; more finds better and takes longer."""
    nprobe: int | None = None
    """Cells looked into in an ``ivf`` index; more finds better and takes longer."""
    hybrid: str | None = None
    """``"rrf"`` fuses the ranking with that of BM25: better to rerank, worse as it stands."""
    query: str = "question"
    """Field that holds the query's text, for ``hybrid``."""
    _index: PassageIndex | None = field(init=False, repr=False, compare=False, default=None)

    @property
    def imports(self) -> Sequence[str]:
        """The index library."""
        return ("faiss",)

    @property
    def reads(self) -> Sequence[str]:
        """The vector, and for ``hybrid`` the query's text."""
        return (self.vector,) if self.hybrid is None else (self.vector, self.query)

    @property
    def writes(self) -> Sequence[str]:
        """The passages."""
        return (self.into,)

    def known_by(self) -> Mapping[str, object]:
        """Return the index by what it holds."""
        return {"index": Manifest.read(Path(self.index)).told()}

    def check(self) -> None:
        """Refuse an index that is missing or damaged, and options that it can not follow."""
        if self.k < 1:
            raise PlanError(f"Retrieve: k={self.k} must be at least 1")
        if self.hybrid not in (None, "rrf"):
            raise PlanError(f"Retrieve: hybrid={self.hybrid!r} is unknown; use 'rrf' or None")
        manifest = Manifest.read(Path(self.index))
        if self.hybrid and not manifest.bm25:
            raise PlanError(
                f"Retrieve: hybrid='rrf' needs BM25, but index {self.index!r} was built without; "
                "build it with bm25=True, or leave hybrid out"
            )
        for option, value, kind in (("ef", self.ef, "hnsw"), ("nprobe", self.nprobe, "ivf")):
            if value is None:
                continue
            if value < 1:
                raise PlanError(f"Retrieve: {option}={value} must be at least 1")
            if manifest.kind != kind:
                raise PlanError(
                    f"Retrieve: {option}={value} is for {kind!r}, but index {self.index!r} is "
                    f"{manifest.kind!r}; leave it out, or build the index with kind={kind!r}"
                )

    def setup(self) -> None:
        """Open the index, once per process."""
        self._index = PassageIndex.load(self.index)
        if self.hybrid is not None:
            _ = self._index.lexical

    def process_batch(self, records: Sequence[Record]) -> Sequence[Outcome]:
        """Search for all records together."""
        self._refuse_other_model(records)
        return faults_apart(records, self._fault, self._found)

    def teardown(self) -> None:
        """Let go the index; the process keeps it for other stages."""
        self._index = None

    def _refuse_other_model(self, records: Sequence[Record]) -> None:
        """End the run if all vectors of a batch have the one same wrong width."""
        index = ready(self._index, self)
        widths = {_width(record.get(self.vector)) for record in records}
        wanted = index.manifest.dimension
        if len(widths) == 1 and (found := widths.pop()) not in (wanted, None):
            raise StopRun(
                f"Retrieve: field {self.vector!r} holds vectors of width {found}, but index "
                f"{self.index!r} has width {wanted}, made with {index.manifest.model!r}; "
                "embed queries with that model, or build the index with yours"
            )

    def _fault(self, record: Record) -> Exception | None:
        wanted = ready(self._index, self).manifest.dimension
        try:
            vector = finite_array(record.get(self.vector), self.vector, ndim=1)
        except ValueError as error:
            return error
        if len(vector) != wanted:
            return ValueError(
                f"Retrieve: field {self.vector!r} has width {len(vector)}, "
                f"but index {self.index!r} has {wanted}"
            )
        return text_fault(record, self.query, self) if self.hybrid else None

    def _found(self, records: Sequence[Record]) -> list[Record]:
        index = ready(self._index, self)
        hits = self._fused(index, records) if self.hybrid else self._nearest(index, records, self.k)
        return [
            {**record, self.into: _passages(index, ranked)}
            for record, ranked in zip(records, hits, strict=True)
        ]

    def _nearest(self, index: PassageIndex, records: Sequence[Record], k: int) -> list[list[_Hit]]:
        """Return rows and scores for each record, best first."""
        queries = np.array([record[self.vector] for record in records], dtype=np.float32)
        scores, rows = index.search(queries, k, ef=self.ef, nprobe=self.nprobe)
        return [
            [(row, score) for row, score in zip(some_rows, some_scores, strict=True) if row >= 0]
            for some_rows, some_scores in zip(rows.tolist(), scores.tolist(), strict=True)
        ]

    def _fused(self, index: PassageIndex, records: Sequence[Record]) -> list[list[_Hit]]:
        """Fuse the nearest passages with those that share the query's words."""
        depth = max(self.k, _FUSION_DEPTH)
        return [
            reciprocal_rank_fusion(
                [[row for row, _ in near], index.lexical.search(record[self.query], depth)]
            )[: self.k]
            for record, near in zip(records, self._nearest(index, records, depth), strict=True)
        ]


def _width(value: Any) -> int | None:
    return len(value) if isinstance(value, np.ndarray | list) else None


def _passages(index: PassageIndex, ranked: Sequence[_Hit]) -> list[Passage]:
    """Read passages and say how each was found; their own fields of these names give way."""
    return [
        {**index.passages[row], "score": score, "rank": rank, "row": row}
        for rank, (row, score) in enumerate(ranked, start=1)
    ]
