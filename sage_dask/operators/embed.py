"""The stage that turns texts into vectors."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from sage_dask.errors import PlanError
from sage_dask.operators.models import MINILM, Embedder, load_embedder
from sage_dask.operators.remote import Remote
from sage_dask.operators.remote_embedder import RemoteEmbedder
from sage_dask.operators.shared import faults_apart, ready, text_fault
from sage_dask.record import Outcome, Record


@dataclass
class Embed(Remote):
    """Add the embedding of a text to each record: computed here, or by a model server.

    A text longer than the model's ``max_tokens`` is embedded by its beginning
    here; a server may refuse it, unless ``extra`` asks it to cut the text too.
    """

    text: str = "question"
    """Field that holds the text; a record without one fails alone."""
    model: str = MINILM
    """``"minilm"``, or any name or folder that sentence-transformers takes; with an
    ``endpoint``, the model's name as the server knows it."""
    into: str = "embedding"
    """Field for the vector, shape ``(d,)``, float32."""
    batch_size: int = 32
    """Texts per forward pass; the stage's own batch may be larger."""
    request_size: int = 32
    """Texts per request to a server."""
    prefix: str | None = None
    """Put before each text, for models that want ``"query: "`` or the like."""
    normalize: bool = True
    """Scale vectors to length 1, so that inner products are cosines."""
    tokens_into: str | None = None
    """Field for the token vectors, shape ``(t, d)``, float16, for late interaction."""
    threads: int = 1
    """Torch threads of the worker process."""
    _embedder: Embedder | None = field(init=False, repr=False, compare=False, default=None)
    _remote: RemoteEmbedder | None = field(init=False, repr=False, compare=False, default=None)

    _not_extra: ClassVar[frozenset[str]] = frozenset({"model", "input", "encoding_format"})

    @property
    def imports(self) -> Sequence[str]:
        """The embedding library, where no server embeds."""
        return ("sentence_transformers",) if self.endpoint is None else ()

    @property
    def reads(self) -> Sequence[str]:
        """The text."""
        return (self.text,)

    @property
    def writes(self) -> Sequence[str]:
        """The vector, and the token vectors if they are wanted."""
        return (self.into,) if self.tokens_into is None else (self.into, self.tokens_into)

    @property
    def immaterial(self) -> tuple[str, ...]:
        """How texts are grouped and how many threads compute, beside what all have."""
        return (*super().immaterial, "batch_size", "request_size", "threads")

    def check(self) -> None:
        """Refuse sizes below 1, two outputs in one field, and what a server does not give."""
        super().check()
        for option in ("batch_size", "request_size", "threads"):
            if (value := getattr(self, option)) < 1:
                raise PlanError(f"Embed: {option}={value} must be at least 1")
        if self.tokens_into is not None and self.endpoint is not None:
            raise PlanError(
                f"Embed: tokens_into={self.tokens_into!r} wants token vectors, which a server's "
                "/embeddings does not give; leave it out, or leave out endpoint="
            )
        if self.tokens_into == self.into:
            raise PlanError(
                f"Embed: into and tokens_into are both {self.into!r}; give them different fields"
            )

    def setup(self) -> None:
        """Load the model, once per process, or make the connection to a server."""
        if self.endpoint is None:
            self._embedder = load_embedder(self.model, threads=self.threads)
            return
        self._remote = RemoteEmbedder(
            self.connect(), self.model, self.request_size, self.normalize, self.extra
        )

    def process_batch(
        self, records: Sequence[Record]
    ) -> Sequence[Outcome] | Awaitable[Sequence[Outcome]]:
        """Embed the texts of all records together; waiting for a server is a coroutine.

        Raises:
            StopRun: The server would refuse every other text as well.
        """
        if self.is_async:
            return self._embedded_remotely(ready(self._remote, self), records)
        return faults_apart(records, self._fault, self._embedded)

    def teardown(self) -> None:
        """Let go the model, which the process keeps for other stages, or the connection."""
        self._embedder = self._remote = None
        super().teardown()

    def _fault(self, record: Record) -> Exception | None:
        return text_fault(record, self.text, self)

    def _texts(self, records: Sequence[Record]) -> list[str]:
        return [(self.prefix or "") + record[self.text] for record in records]

    async def _embedded_remotely(
        self, remote: RemoteEmbedder, records: Sequence[Record]
    ) -> Sequence[Outcome]:
        outcomes: list[Outcome] = [self._fault(record) for record in records]
        sound = [place for place, fault in enumerate(outcomes) if fault is None]
        vectors = await remote.encode(self._texts([records[place] for place in sound]))
        for place, vector in zip(sound, vectors, strict=True):
            if isinstance(vector, Exception):
                outcomes[place] = vector
            else:
                outcomes[place] = {**records[place], self.into: vector}
        return outcomes

    def _embedded(self, records: Sequence[Record]) -> list[Record]:
        embedder = ready(self._embedder, self)
        texts = self._texts(records)
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
