"""Which replica a request goes to: preference by prefix, bounded by load."""

from __future__ import annotations

import math
import subprocess
import sys
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from sage_dask.endpoint.routing import LOAD_BOUND, Replica, choose, preferred, prefix_key

_ENDPOINTS = ("http://a/v1", "http://b/v1", "http://c/v1")
_KEYS = [prefix_key(f"prefix {number}") for number in range(600)]


def test_prefixes_are_shared_out_evenly():
    """Of many prefixes each replica is preferred by its part."""
    counts = Counter(preferred(key, _ENDPOINTS) for key in _KEYS)

    assert set(counts) == set(_ENDPOINTS)
    assert max(counts.values()) < 1.2 * len(_KEYS) / 3


def test_losing_a_replica_moves_only_those_that_preferred_it():
    """The others find their prefixes where they left them."""
    for key in _KEYS:
        before = preferred(key, _ENDPOINTS)
        after = preferred(key, _ENDPOINTS[:2])

        assert after == before or before == _ENDPOINTS[2]


def test_the_order_in_which_replicas_are_named_does_not_matter():
    """Two pipelines that list the same servers differently share their caches."""
    for key in _KEYS:
        assert preferred(key, _ENDPOINTS) == preferred(key, _ENDPOINTS[::-1])


def test_all_processes_prefer_the_same():
    """The hash is not that of Python, which differs from process to process."""
    code = (
        "from sage_dask.endpoint.routing import preferred, prefix_key\n"
        f"print([preferred(prefix_key(f'prefix {{n}}'), {_ENDPOINTS}) for n in range(20)])"
    )

    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert other.stdout.strip() == str([preferred(key, _ENDPOINTS) for key in _KEYS[:20]])


def test_a_prefix_may_be_any_text():
    """Half a surrogate pair in a row's text is no reason to fail."""
    assert prefix_key("\ud800") != prefix_key("\ud801")


def test_without_a_prefix_the_least_loaded_replica_is_chosen():
    """Load is relative to slots: 4 of 16 are less than 2 of 4."""
    replicas = [Replica("small", 2, 4), Replica("large", 4, 16)]

    assert choose(replicas, ["small", "large"], None) == "large"


def test_the_favourite_is_chosen_unless_it_carries_too_much():
    """A shared prefix fills the favourite until its load is a quarter above its share."""
    counts = Counter[str]()

    for _ in range(100):
        replicas = [Replica(name, counts[name], 100) for name in ("a", "b")]
        counts[choose(replicas, ["a", "b"], "a")] += 1

    assert 60 <= counts["a"] <= 67


def test_a_few_requests_keep_together():
    """As long as there are a handful, all go where their prefix is."""
    replicas = [Replica("a", 3, 100), Replica("b", 0, 100)]

    assert choose(replicas, ["a", "b"], "a") == "a"


def test_a_favourite_that_is_not_free_is_not_waited_for():
    """A slot that is free is used."""
    replicas = [Replica("a", 4, 4), Replica("b", 0, 4)]

    assert choose(replicas, ["b"], "a") == "b"


@given(
    in_flight=st.lists(st.integers(0, 50), min_size=1, max_size=5),
    slots=st.one_of(st.just(math.inf), st.integers(1, 60)),
    data=st.data(),
)
def test_the_choice_is_free_and_within_the_bound(in_flight, slots, data):
    """Whatever the loads are: it is one of the free ones, and not far above the mean."""
    replicas = [Replica(f"{index}", number, slots) for index, number in enumerate(in_flight)]
    names = [replica.endpoint for replica in replicas]
    free = data.draw(st.lists(st.sampled_from(names), min_size=1, unique=True))
    favourite = data.draw(st.sampled_from([None, *names]))

    chosen = choose(replicas, free, favourite)

    assert chosen in free
    mean = (sum(in_flight) + 1) / len(in_flight)
    least = min(in_flight[names.index(name)] for name in free)
    assert in_flight[names.index(chosen)] + 1 <= max(LOAD_BOUND * mean + 4, least + 1)
