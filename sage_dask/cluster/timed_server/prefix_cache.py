"""Which prompt prefixes a server has seen lately.

Only the bookkeeping of vLLM's prefix cache is imitated: its blocks take no room
in the KV cache here, and sequences that share a prefix do not share memory.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from sage_dask.cluster.timed_server.work import BLOCK_TOKENS


class PrefixCache:
    """The most recently used blocks, by keys that stand for all that comes before them.

    Args:
        capacity: Blocks remembered; 0 remembers and counts nothing.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.queries = 0
        """Tokens looked up."""
        self.hits = 0
        """Tokens found."""
        self._blocks: OrderedDict[int, None] = OrderedDict()

    def known(self, blocks: Sequence[int], num_tokens: int) -> int:
        """Return how many leading tokens of a prompt of ``num_tokens`` need no computing.

        One token at least is left to compute, as its output is what comes next.
        """
        known = 0
        for key in blocks[: (num_tokens - 1) // BLOCK_TOKENS]:
            if key not in self._blocks:
                break
            self._blocks.move_to_end(key)
            known += 1
        return known * BLOCK_TOKENS

    def count(self, queried: int, found: int) -> None:
        """Count a prompt's tokens, once per prompt: a queue's head is looked up at every step."""
        if self.capacity:
            self.queries += queried
            self.hits += found

    def remember(self, blocks: Sequence[int]) -> None:
        """Keep a prompt's blocks, and let go of those that were not used for longest."""
        # The last block first: what a prefix begins with must outlive what follows it.
        for key in reversed(blocks):
            self._blocks[key] = None
            self._blocks.move_to_end(key)
        while len(self._blocks) > self.capacity:
            self._blocks.popitem(last=False)

    def __len__(self) -> int:
        return len(self._blocks)

    def __repr__(self) -> str:
        return f"<PrefixCache {len(self)}/{self.capacity} blocks, {self.hits}/{self.queries} hit>"
