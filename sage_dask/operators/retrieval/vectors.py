"""The nearest-neighbour file of an index: built once with FAISS, searched in batches.

Three kinds by one word: ``flat`` compares with every passage and is exact,
``hnsw`` walks a graph, ``ivf`` looks into the nearest cells only.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from sage_dask.errors import PlanError, SinkError
from sage_dask.extras import require
from sage_dask.operators.arrays import FloatArray, IntArray

VECTORS = "vectors.faiss"

# Vectors handed to FAISS at once while building: 100 MB of 384 floats.
_CHUNK = 65_536

# 32 neighbours and 64 candidates found .994 of the exact answers among 10,000 passages.
_HNSW_NEIGHBOURS = 32
_HNSW_CANDIDATES = 64

# FAISS advises 4 * sqrt(n) cells and at least 39 training vectors for each.
_TRAINING_PER_CELL = 39
_LOOKED_INTO = 1 / 16


def _flat(faiss: Any, vectors: FloatArray) -> Any:
    return faiss.IndexFlatIP(vectors.shape[1])


def _hnsw(faiss: Any, vectors: FloatArray) -> Any:
    index = faiss.IndexHNSWFlat(vectors.shape[1], _HNSW_NEIGHBOURS, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efSearch = _HNSW_CANDIDATES
    return index


def _ivf(faiss: Any, vectors: FloatArray) -> Any:
    count, width = vectors.shape
    cells = max(1, min(round(4 * math.sqrt(count)), count // _TRAINING_PER_CELL))
    index = faiss.index_factory(width, f"IVF{cells},Flat", faiss.METRIC_INNER_PRODUCT)
    index.nprobe = max(8, round(cells * _LOOKED_INTO))
    stride = max(1, count // (256 * cells))
    index.train(np.ascontiguousarray(vectors[::stride]))
    return index


_BUILDERS: dict[str, Callable[[Any, FloatArray], Any]] = {
    "flat": _flat,
    "hnsw": _hnsw,
    "ivf": _ivf,
}
KINDS = tuple(_BUILDERS)


def build_vectors(vectors: FloatArray, kind: str, folder: Path) -> None:
    """Build the file for ``n`` vectors, shape ``(n, d)``; holds them in memory once."""
    faiss = _faiss(f"building a {kind!r} index")
    index = _BUILDERS[kind](faiss, vectors)
    for start in range(0, len(vectors), _CHUNK):
        index.add(np.ascontiguousarray(vectors[start : start + _CHUNK]))
    try:
        faiss.write_index(index, str(folder / VECTORS))
    except RuntimeError as error:
        raise SinkError(
            f"the vectors of {str(folder)!r} can not be written ({error}); is the disk full?"
        ) from error


class VectorIndex:
    """Search the file of one index; safe to use from several threads."""

    def __init__(self, folder: Path, kind: str) -> None:
        self._faiss = _faiss("searching an index")
        self._index = self._read(folder / VECTORS)
        self._kind = kind

    def __len__(self) -> int:
        return int(self._index.ntotal)

    @property
    def dimension(self) -> int:
        """Width of a vector."""
        return int(self._index.d)

    def search(
        self, queries: FloatArray, k: int, *, ef: int | None = None, nprobe: int | None = None
    ) -> tuple[FloatArray, IntArray]:
        """Find the ``k`` passages nearest to each query.

        Args:
            queries: Vectors, shape ``(q, d)``, float32.
            k: Passages wanted per query; more than there are means all.
            ef: Candidates kept while walking an ``hnsw`` index.
            nprobe: Cells looked into in an ``ivf`` index.

        Returns:
            Inner products, shape ``(q, k)``, best first, and rows, shape ``(q, k)``;
            row -1 where an approximate index found fewer.

        Raises:
            ValueError: ``queries`` is not ``(q, d)``; the message names both widths.
        """
        if queries.ndim != 2 or queries.shape[1] != self.dimension:
            raise ValueError(
                f"queries have shape {queries.shape}, but the index wants (q, {self.dimension}); "
                "embed queries with the model that the index was built with"
            )
        # One thread per search: two cost 2 to 10 times the CPU in batches below 256.  OpenMP keeps
        # the number per calling thread, so it is set here and not where the index is opened.
        self._faiss.omp_set_num_threads(1)
        scores, rows = self._index.search(
            np.ascontiguousarray(queries, dtype=np.float32),
            min(k, len(self)),
            params=self._parameters(ef, nprobe),
        )
        return scores, rows

    def _read(self, path: Path) -> Any:
        try:
            return self._faiss.read_index(str(path), self._faiss.IO_FLAG_MMAP)
        except RuntimeError as error:
            raise PlanError(
                f"index {str(path.parent)!r}: {path.name!r} is damaged ({error}); build it again"
            ) from error

    def _parameters(self, ef: int | None, nprobe: int | None) -> Any:
        """Return the settings of one call: set on the index, they would reach other threads."""
        if self._kind == "hnsw" and ef is not None:
            return self._faiss.SearchParametersHNSW(efSearch=ef)
        if self._kind == "ivf" and nprobe is not None:
            return self._faiss.SearchParametersIVF(nprobe=nprobe)
        return None


def _faiss(needed_by: str) -> Any:
    return require("faiss", extra="rag", needed_by=needed_by)
