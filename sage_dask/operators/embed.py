"""The stage that turns texts into vectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from sage_dask.errors import PlanError
from sage_dask.operators.models import MINILM, Embedder, load_embedder
from sage_dask.operators.shared import Declared, faults_apart, ready, text_fault
from sage_dask.record import Outcome, Record
from sage_dask.stage import Operator


@dataclass
class Embed(Declared, Operator):
    """Add the embedding of a text to each record.

    A text longer than the model's ``max_tokens`` is embedded by its beginning.
    """

    text: str = "question"
    """Field that holds the text; a record without one fails alone."""
    model: str = MINILM
    """``"minilm"``, or any name or folder that sentence-transformers takes."""
    into: str = "embedding"
    """Field for the vector, shape ``(d,)``, float32."""
    batch_size: int = 32
    """Texts per forward pass; the stage's own batch may be larger."""
    prefix: str | None = None
    """Put before each text, for models that want ``"query: "`` or the like."""
    normalize: bool = True
    """Scale vectors to length 1, so that inner products are cosines."""
    tokens_into: str | None = None
    """Field for the token vectors, shape ``(t, d)``, float16, for late interaction."""
    threads: int = 1
    """Torch threads of the worker process."""
    _embedder: Embedder | None = field(init=False, repr=False, compare=False, default=None)

    @property
    def imports(self) -> Sequence[str]:
        """The embedding library."""
        return ("sentence_transformers",)

    @property
    def reads(self) -> Sequence[str]:
        """The text."""
        return (self.text,)

    @property
    def writes(self) -> Sequence[str]:
        """The vector, and the token vectors if they are wanted."""
        return (self.into,) if self.tokens_into is None else (self.into, self.tokens_into)

    def check(self) -> None:
        """Refuse sizes below 1 and two outputs in one field."""
        for option, value in (("batch_size", self.batch_size), ("threads", self.threads)):
            if value < 1:
                raise PlanError(f"Embed: {option}={value} must be at least 1")
        if self.tokens_into == self.into:
            raise PlanError(
                f"Embed: into and tokens_into are both {self.into!r}; give them different fields"
            )

    def setup(self) -> None:
        """Load the model, once per process."""
        self._embedder = load_embedder(self.model, threads=self.threads)

    def process_batch(self, records: Sequence[Record]) -> Sequence[Outcome]:
        """Embed the texts of all records together."""
        return faults_apart(
            records, lambda record: text_fault(record, self.text, self), self._embedded
        )

    def teardown(self) -> None:
        """Let go the model; the process keeps it for other stages."""
        self._embedder = None

    def _embedded(self, records: Sequence[Record]) -> list[Record]:
        embedder = ready(self._embedder, self)
        texts = [(self.prefix or "") + record[self.text] for record in records]
        if self.tokens_into is None:
            vectors = embedder.encode(texts, batch_size=self.batch_size, normalize=self.normalize)
            return [
                {**record, self.into: vector}
                for record, vector in zip(records, vectors, strict=True)
            ]
        vectors, tokens = embedder.encode_tokens(
            texts, batch_size=self.batch_size, normalize=self.normalize
        )
        # Half the bytes to travel; the rounding (5e-4) is far below that of the stored form.
        return [
            {**record, self.into: vector, self.tokens_into: token_vectors.astype(np.float16)}
            for record, vector, token_vectors in zip(records, vectors, tokens, strict=True)
        ]
