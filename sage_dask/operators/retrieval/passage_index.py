"""A folder of passages that can be searched by vector, by token vectors and by words.

A folder, conventionally ``NAME.index``, is written once (see ``index_writer``)
and never changed, so that any number of processes may map the same files.
Whatever is large is memory-mapped: the workers of one machine share one copy.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from sage_dask.errors import PlanError
from sage_dask.operators.arrays import FloatArray, Int8Array, IntArray
from sage_dask.operators.retrieval.lexical import LexicalIndex
from sage_dask.operators.retrieval.manifest import MANIFEST, Manifest
from sage_dask.operators.retrieval.passages import PassageStore
from sage_dask.operators.retrieval.tokens import TokenStore
from sage_dask.operators.retrieval.vectors import VectorIndex
from sage_dask.operators.shared import ProcessCache


class PassageIndex:
    """Read one index folder; safe to use from several threads.

    Use ``PassageIndex.load``, which keeps one instance per process.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.manifest = Manifest.read(self.path)
        self.passages = PassageStore(self.path)
        self._vectors = VectorIndex(self.path, self.manifest.kind)

    @classmethod
    def load(cls, path: str | Path) -> PassageIndex:
        """Open an index, or return the one that this process has open.

        Raises:
            PlanError: The folder is missing, no index, of another version or incomplete.
        """
        folder = Path(path).resolve()
        # An index that was built anew in the same place has another manifest file.
        return _open.get((str(folder), _stamp(folder)), lambda: cls(folder))

    def __len__(self) -> int:
        return self.manifest.num_passages

    def search(
        self, vectors: FloatArray, k: int, *, ef: int | None = None, nprobe: int | None = None
    ) -> tuple[FloatArray, IntArray]:
        """Find the ``k`` passages nearest to each query.

        Args:
            vectors: Queries, shape ``(q, d)``, float32.
            k: Passages wanted per query; more than there are means all.
            ef: Candidates kept while walking an ``hnsw`` index.
            nprobe: Cells looked into in an ``ivf`` index.

        Returns:
            Inner products, shape ``(q, k)``, best first, and rows, shape ``(q, k)``;
            row -1 where an approximate index found fewer.

        Raises:
            ValueError: ``vectors`` is not ``(q, d)``; the message names both widths.
        """
        return self._vectors.search(vectors, k, ef=ef, nprobe=nprobe)

    @cached_property
    def lexical(self) -> LexicalIndex:
        """The BM25 side of the index, opened at first use."""
        if not self.manifest.bm25:
            raise PlanError(
                f"index {str(self.path)!r} holds no BM25 files; build it with bm25=True"
            )
        return LexicalIndex(self.path)

    @cached_property
    def tokens(self) -> TokenStore:
        """The stored token vectors, opened at first use."""
        if self.manifest.num_tokens is None:
            raise PlanError(
                f"index {str(self.path)!r} holds no token vectors; build it with tokens=..., "
                "or rerank without index= to encode passages as they come"
            )
        return TokenStore(self.path)

    def token_codes(self, rows: Sequence[int]) -> list[Int8Array]:
        """Return the stored token codes of each passage, shape ``(t_i, c)``."""
        return self.tokens.codes(rows)

    def verify(self) -> None:
        """Read every file and compare its hash with the manifest; takes as long as reading does.

        Raises:
            PlanError: A file's content is not what was written.
        """
        self.manifest.verify(self.path)

    def __repr__(self) -> str:
        facts = self.manifest
        tokens = "" if facts.num_tokens is None else f", {facts.num_tokens:,} token vectors"
        words = ", bm25" if facts.bm25 else ""
        return (
            f"<PassageIndex {self.path.name!r}: {len(self):,} passages, {facts.kind}, "
            f"{facts.dimension}-d of {facts.model!r}{tokens}{words}>"
        )


_open: ProcessCache[PassageIndex] = ProcessCache()


def _stamp(folder: Path) -> tuple[int, int] | None:
    """Return what tells one building of an index from the next."""
    try:
        facts = (folder / MANIFEST).stat()
    except OSError:
        return None
    return facts.st_ino, facts.st_mtime_ns
