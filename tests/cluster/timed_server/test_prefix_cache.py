"""Known prefixes: leading blocks only, the least recently used forgotten first."""

from __future__ import annotations

from sage_dask.cluster.timed_server.prefix_cache import PrefixCache


def test_leading_blocks_count_up_to_the_first_unknown():
    """What follows an unknown block was computed for another prefix."""
    cache = PrefixCache(10)
    cache.remember((1, 2, 4))

    assert cache.known((1, 2, 3, 4), num_tokens=100) == 32
    assert cache.known((9, 1), num_tokens=100) == 0


def test_one_token_is_always_left_to_compute():
    """A prompt that is known as a whole still needs its last block."""
    cache = PrefixCache(10)
    cache.remember((1, 2))

    assert cache.known((1, 2), num_tokens=32) == 16
    assert cache.known((1, 2), num_tokens=33) == 32


def test_the_end_of_the_oldest_prefix_goes_first():
    """Beginnings are worth more, as other prompts may share them."""
    cache = PrefixCache(3)
    cache.remember((1, 2))

    cache.remember((5, 6))

    assert len(cache) == 3
    assert cache.known((1, 2), num_tokens=100) == 16
    assert cache.known((5, 6), num_tokens=100) == 32


def test_what_is_used_is_kept():
    """The least recently used goes, and a lookup is a use."""
    cache = PrefixCache(2)
    cache.remember((1,))
    cache.remember((2,))
    cache.known((1,), num_tokens=17)

    cache.remember((3,))

    assert cache.known((1,), num_tokens=17) == 16
    assert cache.known((2,), num_tokens=17) == 0


def test_no_room_means_no_cache():
    """Without it nothing is counted either, as vLLM does."""
    cache = PrefixCache(0)
    cache.remember((1,))
    cache.count(100, cache.known((1,), 100))

    assert (cache.queries, cache.hits) == (0, 0)
