from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sage_dask.operators.arrays import unit_rows
from sage_dask.operators.retrieval.tokens import TokenCodec, TokenStore, TokenWriter, max_similarity


def tokens_near_a_plane(count: int, width: int, rank: int, seed: int) -> np.ndarray:
    """Return unit vectors that mostly lie in ``rank`` directions, as a model's do."""
    draw = np.random.default_rng(seed)
    plane = draw.standard_normal((rank, width))
    spread = draw.standard_normal((count, rank)) @ plane
    return unit_rows((spread + 0.05 * draw.standard_normal((count, width))).astype(np.float32))


def naive_max_similarity(query, passages):
    return [
        sum(max(float(q @ t) for t in tokens) if len(tokens) else 0.0 for q in query)
        for tokens in passages
    ]


@given(
    lengths=st.lists(st.integers(0, 5), min_size=1, max_size=6),
    num_query=st.integers(0, 4),
    seed=st.integers(0, 2**32 - 1),
)
def test_max_similarity_is_the_naive_loop(lengths, num_query, seed):
    """Whatever the lengths, also of none at all, the sum of best products is the same."""
    draw = np.random.default_rng(seed)
    query = draw.standard_normal((num_query, 3)).astype(np.float32)
    passages = [draw.standard_normal((length, 3)).astype(np.float32) for length in lengths]

    scores = max_similarity(query, passages)

    np.testing.assert_allclose(scores, naive_max_similarity(query, passages), atol=1e-5)


def test_no_passages_have_no_scores():
    """A query that found nothing gets an empty array."""
    assert max_similarity(np.ones((2, 3), np.float32), []).shape == (0,)


def test_codes_keep_cosines():
    """A quarter of the width at one byte each keeps cosines within 0.02."""
    tokens = tokens_near_a_plane(2000, 64, rank=8, seed=1)
    codec = TokenCodec.fit(tokens, num_components=16)

    by_codes = codec.query(tokens[:50]) @ codec.encode(tokens).T.astype(np.float32)

    assert codec.encode(tokens).dtype == np.int8
    assert np.abs(by_codes - tokens[:50] @ tokens.T).max() < 0.02


def test_rounding_is_half_a_step_at_most():
    """Decoded codes differ from the projected vectors by at most half a step each."""
    tokens = tokens_near_a_plane(500, 32, rank=8, seed=2)
    codec = TokenCodec.fit(tokens, num_components=16)

    errors = np.abs(codec.decode(codec.encode(tokens)) - codec.project(tokens))

    assert (errors <= codec.steps * 0.5001).all()


def test_components_are_orthonormal_with_fewer_tokens_than_components():
    """A tiny corpus still gets a codec that keeps its own cosines."""
    tokens = tokens_near_a_plane(3, 32, rank=3, seed=3)
    codec = TokenCodec.fit(tokens, num_components=16)

    gram = codec.components.T @ codec.components

    np.testing.assert_allclose(gram, np.eye(16), atol=1e-5)
    assert np.abs(codec.project(tokens) @ codec.project(tokens).T - tokens @ tokens.T).max() < 1e-4


@pytest.mark.parametrize("fit_tokens", [1, 40, 10_000])
def test_stored_tokens_come_back_by_row(tmp_path, fit_tokens):
    """Whether fitted at once, midway or at the end, each row reads its own tokens."""
    passages = [tokens_near_a_plane(1 + row % 4, 32, rank=4, seed=row) for row in range(30)]
    writer = TokenWriter(tmp_path, fit_tokens=fit_tokens)
    for row in range(0, 30, 7):
        writer.add(passages[row : row + 7])
    writer.close()

    store = TokenStore(tmp_path)

    assert writer.num_tokens == sum(map(len, passages))
    for row in (29, 0, 13):
        expected = store.codec.encode(passages[row])
        np.testing.assert_array_equal(store.codes([row])[0], expected)


def test_a_passage_without_tokens_has_no_codes(tmp_path):
    """An empty passage between others neither shifts nor breaks them."""
    some = tokens_near_a_plane(3, 8, rank=2, seed=5)
    writer = TokenWriter(tmp_path)
    writer.add([some, np.empty((0, 8), np.float32), some])
    writer.close()

    codes = TokenStore(tmp_path).codes([0, 1, 2])

    assert [len(code) for code in codes] == [3, 0, 3]
    np.testing.assert_array_equal(codes[0], codes[2])


@pytest.mark.parametrize("fit_tokens", [1, 100])
@pytest.mark.parametrize("shape", [(2, 9), (8,)])
def test_another_width_is_refused(tmp_path, fit_tokens, shape):
    """Before and after the codec is fitted, all token vectors have one width."""
    writer = TokenWriter(tmp_path, fit_tokens=fit_tokens)
    writer.add([tokens_near_a_plane(3, 8, rank=2, seed=1)])

    writer.check([np.ones((2, 8), np.float32)])
    with pytest.raises(ValueError, match="one d for the whole index"):
        writer.check([np.ones(shape, np.float32)])
    writer.close()


def test_memory_while_fitting_is_bounded(tmp_path):
    """Once enough tokens were seen, nothing waits in memory any more."""
    writer = TokenWriter(tmp_path, fit_tokens=10)

    for seed in range(5):
        writer.add([tokens_near_a_plane(4, 8, rank=2, seed=seed)])

    assert writer._waiting == []
    writer.close()
