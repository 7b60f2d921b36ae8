"""Which replica of a model server a request goes to.

Requests with a common prefix prefer one replica, which then computes the prefix
once and finds it in its cache.  The preference comes from a hash of prefix and
replica alone, so all workers agree on it without a word, and losing a replica
moves only the requests that preferred it.  It yields to load: no replica gets
much more than its share while another one idles.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b

# A preferred replica may carry a quarter more than its share of the load ("consistent hashing
# with bounded loads", Mirrokni et al. 2018, where 1.25 keeps most of the affinity), and a few
# requests more: among so few, another copy of the prefix costs more than their company.
LOAD_BOUND = 1.25
_FREE_OF_BOUND = 4


@dataclass(frozen=True, slots=True)
class Replica:
    """One endpoint at the moment of a decision."""

    endpoint: str
    in_flight: int
    slots: float
    """Requests that may run there at once; infinite where nobody governs them."""

    @property
    def weight(self) -> float:
        """Its part of the whole, in proportion to the weights of the others."""
        return 1.0 if math.isinf(self.slots) else self.slots

    @property
    def next_load(self) -> float:
        """Requests in flight for its weight, with one more."""
        return (self.in_flight + 1) / self.weight if self.weight else math.inf


def prefix_key(prefix: str) -> bytes:
    """Return a short stand-in for a prefix, the same in every process."""
    return blake2b(prefix.encode("utf-8", "surrogatepass"), digest_size=8).digest()


# The prefixes in use at a time are few, and asked for with every request.
@lru_cache(maxsize=4096)
def preferred(key: bytes, endpoints: tuple[str, ...]) -> str:
    """Return the endpoint that a prefix prefers: rendezvous hashing, each with equal chances."""

    def score(endpoint: str) -> tuple[bytes, str]:
        return blake2b(key + endpoint.encode(), digest_size=8).digest(), endpoint

    return max(endpoints, key=score)


def choose(replicas: Sequence[Replica], free: Sequence[str], favourite: str | None) -> str:
    """Return where a request goes that may start now.

    Args:
        replicas: All that it may ever go to, busy ones too.
        free: Endpoints of those with a free slot, at least one.
        favourite: The endpoint that its prefix prefers; None without one.

    Returns:
        The favourite unless it carries too much, else the least loaded in proportion to its
        slots; of equals the first.
    """
    if favourite is not None and favourite in free:
        total = sum(replica.in_flight for replica in replicas) + 1
        weight = sum(replica.weight for replica in replicas)
        replica = next(each for each in replicas if each.endpoint == favourite)
        share = total * replica.weight / weight if weight else 0.0
        if replica.in_flight + 1 <= LOAD_BOUND * share + _FREE_OF_BOUND:
            return favourite
    loads = {replica.endpoint: replica.next_load for replica in replicas}
    return min(free, key=loads.__getitem__)
