"""Two replicas in virtual time: prefixes stay together, and no replica idles for it."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from dataclasses import dataclass, field

import pytest

from sage_dask.endpoint.routing import preferred, prefix_key
from sage_dask.endpoint.slots import RequestSlots
from tests.endpoint.virtual_time import now_s, run

_REPLICAS = ("http://a/v1", "http://b/v1")
_NUM_REQUESTS = 6000
# All 64 slots busy throughout, and the last request's latency.
_LONGEST_WALL_S = 1.01 * _NUM_REQUESTS * 0.4 / 64 + 0.5


@dataclass
class Served:
    """What happened at the replicas."""

    requests: Counter[str] = field(default_factory=Counter)
    at_home: int = 0
    switches: int = 0
    """Requests with another prefix than the one that was sent to the same replica before."""
    wall_s: float = 0.0
    last: dict[str, str] = field(default_factory=dict)

    @property
    def share_at_home(self) -> float:
        """Part of the requests that went to the replica that their prefix prefers."""
        return self.at_home / self.requests.total()

    @property
    def is_even(self) -> bool:
        """Whether both replicas had the same number of requests, within a tenth."""
        counts = [self.requests[replica] for replica in _REPLICAS]
        return max(counts) <= 1.1 * min(counts)


async def _simulate(prefixes: list[str | None], num_clients: int, seats: int, seed: int) -> Served:
    """Send requests of 400 ± 100 ms from a closed loop of clients."""
    slots = RequestSlots(clock=now_s, jitter=lambda: 0.0)
    slots.allot({replica: {"rag": seats} for replica in _REPLICAS}, version=1)
    rng = random.Random(seed)
    asked = iter(rng.choices(prefixes, k=_NUM_REQUESTS))
    served = Served()

    async def client() -> None:
        for prefix in asked:
            slot = await slots.acquire(_REPLICAS, "rag", "task", prefix=prefix)
            served.requests[slot.endpoint] += 1
            if prefix is not None:
                served.at_home += slot.endpoint == preferred(prefix_key(prefix), _REPLICAS)
                served.switches += served.last.get(slot.endpoint) != prefix
                served.last[slot.endpoint] = prefix
            await asyncio.sleep(rng.uniform(0.3, 0.5))
            slot.release("ok", 0.4)

    await asyncio.gather(*[client() for _ in range(num_clients)])
    served.wall_s = now_s()
    return served


@pytest.mark.parametrize("name", ["question", "system prompt", "instructions"])
def test_prefixes_find_their_replica_and_both_replicas_are_full(name):
    """Fifty prefixes under saturation: all at home but those that an even load has no room for."""
    prefixes = [f"{name} {number}" for number in range(50)]
    homes = Counter(preferred(prefix_key(prefix), _REPLICAS) for prefix in prefixes)
    most_at_home = sum(min(number, 25) for number in homes.values()) / 50

    served = run(_simulate(prefixes, num_clients=128, seats=32, seed=1))

    assert served.share_at_home >= 0.97 * most_at_home
    assert served.is_even
    assert served.wall_s <= _LONGEST_WALL_S


def test_nine_of_ten_requests_are_at_home():
    """Where chance shares fifty prefixes out as it mostly does, 22 to 28 or better."""
    prefixes = [f"question {number}" for number in range(50)]

    served = run(_simulate(prefixes, num_clients=128, seats=32, seed=2))

    assert served.share_at_home >= 0.9
    assert served.is_even


def test_affinity_costs_no_throughput_where_all_prefer_one_replica():
    """A single shared prefix fills both replicas all the same."""
    served = run(_simulate(["instructions"], num_clients=128, seats=32, seed=1))

    assert served.is_even
    assert served.wall_s <= _LONGEST_WALL_S


def test_load_is_even_without_prefixes():
    """Where nothing is preferred the least loaded replica is, also below saturation."""
    served = run(_simulate([None], num_clients=40, seats=32, seed=1))

    assert served.is_even


def test_requests_of_one_prefix_are_near_each_other_in_time():
    """Far fewer changes of prefix at a replica than in the order of arrival."""
    prefixes = [f"instructions {number}" for number in range(50)]

    served = run(_simulate(prefixes, num_clients=256, seats=32, seed=1))

    # In the order of arrival 49 of 50 requests have another prefix than the one before.
    assert served.switches <= 0.7 * _NUM_REQUESTS
