"""Building an index folder: whole, or not at all.

A build that is killed leaves only ``NAME.building-*``, which can be removed.
While passages arrive nothing grows with the corpus but the
offsets; vectors come into memory once, at the end, when FAISS takes them.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import numpy as np

from sage_dask.errors import SinkError
from sage_dask.operators.arrays import FloatArray
from sage_dask.operators.files.life import writing
from sage_dask.operators.retrieval.folder import (
    building_folder,
    check_index_target,
    publish_index,
)
from sage_dask.operators.retrieval.lexical import build_lexical
from sage_dask.operators.retrieval.manifest import Manifest, file_facts, maker
from sage_dask.operators.retrieval.passages import (
    Passage,
    PassageStore,
    PassageWriter,
    encode_passage,
)
from sage_dask.operators.retrieval.tokens import TokenWriter
from sage_dask.operators.retrieval.vectors import build_vectors

_RAW = "vectors.raw"


class IndexWriter:
    """Take passages in batches and publish an index folder.

    Used as a context manager it finishes when the block ends, and leaves
    nothing behind when the block raises.

    Args:
        path: The folder to come; its parent exists.
        model: Name of the embedding model, kept for those who will query.
        kind: ``"flat"``, ``"hnsw"`` or ``"ivf"``.
        tokens: Token vectors come with every passage.
        bm25: Also build the files for word matching.
        overwrite: Replace an index that has this name.

    Raises:
        SinkError: The name is taken, or the parent folder is missing.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        model: str,
        kind: str = "flat",
        tokens: bool = False,
        bm25: bool = False,
        overwrite: bool = False,
    ) -> None:
        self.path = Path(path)
        check_index_target(self.path, overwrite=overwrite)
        self._model, self._kind, self._bm25 = model, kind, bm25
        self._folder = building_folder(self.path)
        self._passages = PassageWriter(self._folder)
        self._raw = (self._folder / _RAW).open("wb")
        self._tokens = TokenWriter(self._folder) if tokens else None
        self._dimension: int | None = None

    def __len__(self) -> int:
        return len(self._passages)

    @property
    def dimension(self) -> int | None:
        """Width of the vectors; None before the first."""
        return self._dimension

    def add(
        self,
        ids: Sequence[str],
        passages: Sequence[Passage],
        vectors: FloatArray,
        tokens: Sequence[FloatArray] | None = None,
    ) -> None:
        """Append some passages.

        Args:
            ids: Their names, which queries get back.
            passages: What else to keep of each: ``"text"`` and any metadata that JSON can hold.
            vectors: Shape ``(n, d)``.
            tokens: Token vectors of each passage, shape ``(t_i, d)``.

        Raises:
            ValueError: Numbers or widths disagree; nothing of the call is kept.
            TypeError: Metadata is not JSON; nothing of the call is kept.
        """
        self._check_shapes(ids, passages, vectors, tokens)
        named = zip(ids, passages, strict=True)
        lines = [encode_passage({**passage, "id": name}) for name, passage in named]
        if self._tokens is not None and tokens is not None:
            self._tokens.check(tokens)
        self._dimension = vectors.shape[1]
        with writing(self.path):
            self._passages.add(lines)
            self._raw.write(np.ascontiguousarray(vectors, dtype=np.float32).tobytes())
            if self._tokens is not None and tokens is not None:
                self._tokens.add(tokens)

    def finish(self) -> Path:
        """Build what searches, and give the folder its name.

        Raises:
            SinkError: No passage was added, the disk refused, or the name was taken meanwhile.
        """
        try:
            self._require_passages()
            with writing(self.path):
                self._build()
                publish_index(self._folder, self.path)
        except BaseException:
            self.abort()
            raise
        return self.path

    def abort(self) -> None:
        """Remove everything written so far."""
        shutil.rmtree(self._folder, ignore_errors=True)
        tokens = [] if self._tokens is None else [self._tokens.abort]
        for close in (self._raw.close, self._passages.abort, *tokens):
            # Closing writes what is buffered: a full disk refuses it, and nobody wants it.
            with suppress(OSError):
                close()

    def __enter__(self) -> IndexWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self.finish()
        else:
            self.abort()

    def _check_shapes(
        self,
        ids: Sequence[str],
        passages: Sequence[Passage],
        vectors: FloatArray,
        tokens: Sequence[FloatArray] | None,
    ) -> None:
        counts = {len(ids), len(passages), len(vectors), len(ids if tokens is None else tokens)}
        if len(counts) > 1 or vectors.ndim != 2:
            raise ValueError(
                f"{len(ids)} ids, {len(passages)} passages, vectors of shape {vectors.shape} and "
                f"{'no' if tokens is None else len(tokens)} token arrays do not belong together; "
                "give one of each per passage"
            )
        if (tokens is None) != (self._tokens is None):
            raise ValueError(
                f"tokens={'None' if tokens is None else '[...]'} disagrees with "
                f"IndexWriter(tokens={self._tokens is not None}); every passage needs them or none"
            )
        if self._dimension not in (None, vectors.shape[1]):
            raise ValueError(
                f"vectors have width {vectors.shape[1]}, but those before had {self._dimension}; "
                "one index holds the vectors of one model"
            )

    def _require_passages(self) -> None:
        if not len(self):
            raise SinkError(
                f"index {str(self.path)!r}: no passage arrived, so there is nothing to search; "
                "see the failed records, or the source"
            )
        if self._tokens is not None and not self._tokens.num_tokens:
            raise SinkError(f"index {str(self.path)!r}: no passage has a single token vector")

    def _build(self) -> None:
        self._passages.close()
        self._raw.close()
        if self._tokens is not None:
            self._tokens.close()
        raw = np.memmap(self._folder / _RAW, dtype=np.float32, mode="r")
        build_vectors(raw.reshape(len(self), -1), self._kind, self._folder)
        (self._folder / _RAW).unlink()
        if self._bm25:
            texts = (passage["text"] for passage in PassageStore(self._folder))
            build_lexical(texts, self._folder)
        self._manifest(raw.size // len(self)).write(self._folder)

    def _manifest(self, dimension: int) -> Manifest:
        return Manifest(
            model=self._model,
            dimension=dimension,
            kind=self._kind,
            num_passages=len(self),
            num_tokens=None if self._tokens is None else self._tokens.num_tokens,
            bm25=self._bm25,
            files=file_facts(self._folder),
            made_by=maker(),
        )

    def __repr__(self) -> str:
        return f"<IndexWriter {self.path.name!r}: {len(self):,} passages so far>"
