"""Words that mean nothing, of the right length; and instances of JSON schemas.

A token is four characters here.  That is about what tokenizers make of English,
and it makes counting, cutting and streaming a matter of indexing.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Sequence

from sage_dask.cluster.timed_server.work import BLOCK_TOKENS

CHARS_PER_TOKEN = 4
_BLOCK_CHARS = BLOCK_TOKENS * CHARS_PER_TOKEN
_NOISE_TOKENS = 1 << 14


def num_tokens(text: str) -> int:
    """Return how many tokens a text has; an empty one counts as one."""
    return max(1, -(-len(text) // CHARS_PER_TOKEN))


def tokens_of(text: str) -> list[str]:
    """Return a text's tokens, which joined give the text."""
    return [text[i : i + CHARS_PER_TOKEN] for i in range(0, len(text), CHARS_PER_TOKEN)]


def token_id(token: str) -> int:
    """Return a number for a token, the same in every process."""
    return zlib.crc32(token.encode("utf-8", "surrogatepass")) & 0xFFFF


def block_keys(text: str) -> tuple[int, ...]:
    """Return a key for each full block of a text, which stands for all before it as well."""
    keys: list[int] = []
    key = 0
    for start in range(0, len(text) - _BLOCK_CHARS + 1, _BLOCK_CHARS):
        key = hash((key, text[start : start + _BLOCK_CHARS]))
        keys.append(key)
    return tuple(keys)


def noise(tokens: int, prompt: str, seed: object) -> str:
    """Return words of exactly so many tokens, the same in every process for equal arguments."""
    offset = (
        zlib.crc32(prompt.encode("utf-8", "surrogatepass"), zlib.crc32(repr(seed).encode()))
        % _NOISE_TOKENS
    )
    needed = (offset + tokens) * CHARS_PER_TOKEN
    text = _NOISE * -(-needed // len(_NOISE))
    # Never a blank at the end: one character less still makes as many tokens.
    return text[offset * CHARS_PER_TOKEN : needed - 1]


def cut_at_stop(text: str, stops: Sequence[str]) -> tuple[str, str | None]:
    """Return a text up to the first stop string in it, and which one that was."""
    found = [(at, stop) for stop in stops if stop and (at := text.find(stop)) >= 0]
    if not found:
        return text, None
    at, stop = min(found)
    return text[:at], stop


def _make_noise() -> str:
    draw = random.Random(4)  # noqa: S311 - syllables, not secrets
    consonants, vowels = "bdfghklmnprstvwz", "aeiou"
    return "".join(
        f"{draw.choice(consonants)}{draw.choice(vowels)}{draw.choice(consonants)} "
        for _ in range(_NOISE_TOKENS)
    )


_NOISE = _make_noise()
