"""Tokens of four characters, and noise that is made of them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sage_dask.cluster.timed_server.text import (
    block_keys,
    cut_at_stop,
    noise,
    num_tokens,
    tokens_of,
)


@given(tokens=st.integers(1, 40_000), prompt=st.text(max_size=20))
def test_noise_has_exactly_the_tokens_asked_for(tokens, prompt):
    """Also beyond the length of what it is cut from."""
    assert num_tokens(noise(tokens, prompt, seed=1)) == tokens


def test_noise_depends_on_prompt_and_seed_alone():
    """The same everywhere for the same, and something else for others."""
    assert noise(5, "a", (1, None)) == "hek kul mip mem wul" == noise(5, "a", (1, None))
    assert len({noise(20, prompt, seed) for prompt in "ab" for seed in (1, 2)}) == 4


@given(text=st.text())
def test_tokens_joined_are_the_text(text):
    """Nothing is lost by cutting."""
    assert "".join(tokens_of(text)) == text
    assert num_tokens(text) == max(1, len(tokens_of(text)))


def test_a_block_stands_for_all_before_it():
    """Equal beginnings have equal keys, up to where they part; the rest of a block has none."""
    one, other = block_keys("x" * 200), block_keys("x" * 64 + "y" + "x" * 135)

    assert len(one) == 3
    assert one[0] == other[0]
    assert not set(one[1:]) & set(other)


def test_the_first_stop_string_cuts():
    """Which one is told; without one the text stays whole."""
    assert cut_at_stop("one two three", ["three", "two"]) == ("one ", "two")
    assert cut_at_stop("one", ["two", ""]) == ("one", None)
