"""The sink that builds an index, so that indexing a corpus is a pipeline like any other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from sage_dask.errors import SinkError, did_you_mean, listed
from sage_dask.operators.arrays import FloatArray, finite_array
from sage_dask.operators.files.companion import FailedFile, check_failed_path
from sage_dask.operators.files.sink import write_failure
from sage_dask.operators.models import MINILM
from sage_dask.operators.retrieval.folder import check_index_target
from sage_dask.operators.retrieval.passages import Passage
from sage_dask.operators.retrieval.vectors import KINDS
from sage_dask.operators.retrieval.writer import IndexWriter
from sage_dask.operators.shared import Declared, ready, text_fault
from sage_dask.record import Failure, Record
from sage_dask.stage import Sink


@dataclass
class WriteIndex(Declared, Sink):
    """Write records as the passages of an index folder.

    The record's id becomes the passage's.  A record that has no form in the
    index fails alone; failed records go to ``<path>.failed.jsonl``.
    """

    path: str
    text: str = "text"
    """Field that holds the passage."""
    embedding: str = "embedding"
    """Field that holds its vector, shape ``(d,)``."""
    tokens: str | None = None
    """Field that holds its token vectors, shape ``(t, d)``; stored for reranking."""
    kind: str = "flat"
    """``"flat"`` (exact), ``"hnsw"`` or ``"ivf"``."""
    model: str = MINILM
    """Name of the model that made the vectors, for those who will query."""
    bm25: bool = False
    """Also build the files for word matching, which hybrid retrieval needs."""
    keep: list[str] | None = None
    """Fields kept as metadata; None keeps all that are not vectors."""
    overwrite: bool = False
    """Replace an index of this name."""
    _writer: IndexWriter | None = field(init=False, repr=False, compare=False, default=None)
    _failed: FailedFile | None = field(init=False, repr=False, compare=False, default=None)

    @property
    def name(self) -> str:
        """The path, as it was given."""
        return self.path

    @property
    def reads(self) -> Sequence[str]:
        """The text, its vector, its token vectors if they are stored, and the metadata."""
        tokens = () if self.tokens is None else (self.tokens,)
        return (self.text, self.embedding, *tokens, *(self.keep or ()))

    def check(self) -> None:
        """Refuse an unknown kind and a place where no index can be written."""
        if self.kind not in KINDS:
            raise SinkError(
                f"WriteIndex: kind={self.kind!r} is unknown; use one of {listed(KINDS)}"
                f"{did_you_mean(self.kind, KINDS)}"
            )
        check_index_target(Path(self.path), overwrite=self.overwrite)
        check_failed_path(Path(self.path))

    def open(self) -> None:
        """Start the folder that will take the index's name."""
        self._failed = FailedFile(Path(self.path))
        self._writer = IndexWriter(
            self.path,
            model=self.model,
            kind=self.kind,
            tokens=self.tokens is not None,
            bm25=self.bm25,
            overwrite=self.overwrite,
        )

    def write(self, ids: Sequence[str], records: Sequence[Record]) -> Sequence[Failure]:
        """Add records as passages, and return a failure for each that can not be one."""
        writer = ready(self._writer, self)
        failures = []
        for name, record in zip(ids, records, strict=True):
            fault = text_fault(record, self.text, self)
            try:
                if fault is not None:
                    raise fault
                writer.add([name], [self._passage(record)], *self._arrays(record))
            except (TypeError, ValueError) as error:
                failures.append(write_failure(name, error))
        return failures

    def write_failures(self, failures: Sequence[Failure]) -> None:
        """Keep failures for the failed file beside the folder."""
        ready(self._failed, self).write(failures)

    def close(self) -> None:
        """Build what searches, and publish the failed file and the index."""
        failed, writer = ready(self._failed, self), ready(self._writer, self)
        failed.publish()
        writer.finish()

    def abort(self) -> str:
        """Remove the unfinished index, which nobody could search; keep the failures."""
        if self._writer is None or self._failed is None:
            return ""
        self._writer.abort()
        return self._failed.keep()

    def _passage(self, record: Record) -> Passage:
        vectors = {self.embedding, self.tokens, self.text}
        kept = [key for key in record if key not in vectors] if self.keep is None else self.keep
        return {**{key: record[key] for key in kept}, "text": record[self.text]}

    def _arrays(self, record: Record) -> tuple[FloatArray, list[FloatArray] | None]:
        """Return the arrays that go with a passage, shapes ``(1, d)`` and ``(t, d)``."""
        vector = finite_array(record.get(self.embedding), self.embedding, ndim=1)
        if self.tokens is None:
            return vector[np.newaxis], None
        return vector[np.newaxis], [finite_array(record.get(self.tokens), self.tokens, ndim=2)]
