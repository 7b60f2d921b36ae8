"""Latencies in buckets."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sage_dask.metrics import Latencies
from sage_dask.sketch import Sketch

values = st.lists(st.tuples(st.floats(1e-5, 1e5), st.integers(1, 1000)), min_size=1, max_size=60)


@given(values, st.sampled_from([1, 50, 90, 99, 100]))
def test_percentiles_are_those_of_all_values_to_one_per_cent(seen, percent):
    """Nearest rank over all records, however they are spread."""
    exact, sketch = Latencies(), Sketch()
    for seconds, count in seen:
        exact.add(seconds, count)
        sketch.add(seconds, count)

    assert sketch.percentile(percent) == pytest.approx(exact.percentile(percent), rel=0.0101)


def test_nothing_has_no_percentile():
    """Not a number, as for exact ones."""
    assert math.isnan(Sketch().percentile(50))


def test_no_time_at_all_counts_too():
    """A latency of zero has no logarithm, and is one of the shortest."""
    sketch = Sketch()

    sketch.add(0.0, 3)

    assert sketch.num_records == 3
    assert sketch.percentile(50) < 1e-5


def test_a_window_is_the_difference_of_two_moments():
    """What was counted before is no part of it."""
    sketch = Sketch()
    sketch.add(1.0, 100)
    before = sketch.counts

    sketch.add(5.0, 10)

    recent = sketch.since(before)
    assert recent.num_records == 10
    assert recent.percentile(50) == pytest.approx(5.0, rel=0.01)


def test_counts_up_to_bounds():
    """Each bound counts all that took no longer."""
    sketch = Sketch()
    for seconds in (0.1, 0.2, 0.2, 3.0):
        sketch.add(seconds)

    assert sketch.at_most([0.05, 0.15, 1.0, 10.0]) == [0, 1, 3, 4]


@given(values, st.floats(1e-4, 1e4))
def test_counts_up_to_a_bound_are_true_to_one_per_cent_of_it(seen, bound):
    """However they are spread, what is counted lies between the bound less and plus one."""
    sketch = Sketch()
    for seconds, count in seen:
        sketch.add(seconds, count)

    (reached,) = sketch.at_most([bound])

    low, high = (sum(n for s, n in seen if s <= bound * off) for off in (0.99, 1.0101))
    assert low <= reached <= high


def test_memory_does_not_grow_with_what_is_counted():
    """A million latencies from a microsecond to a day lie in some 1,300 buckets."""
    sketch = Sketch()

    for number in range(100_000):
        sketch.add(10 ** (-6 + 11 * number / 100_000), 10)

    assert len(sketch.counts) < 1300


@given(values, values)
def test_two_sketches_become_one(seen, also_seen):
    """Merged is what one sketch of everything would be."""
    sketch, other, whole = Sketch(), Sketch(), Sketch()
    for part, of in ((seen, sketch), (also_seen, other)):
        for seconds, count in part:
            of.add(seconds, count)
            whole.add(seconds, count)

    sketch.merge(other)

    assert sketch.counts == whole.counts


def test_the_distribution_ends_with_everybody():
    """Latencies ascend, and each stands with the share that took no longer."""
    sketch = Sketch()
    for seconds in (3.0, 1.0, 1.0, 2.0):
        sketch.add(seconds)

    latencies, shares = zip(*sketch.distribution(), strict=True)

    assert latencies == pytest.approx([1.0, 2.0, 3.0], rel=0.01)
    assert shares == (0.5, 0.75, 1.0)
    assert Sketch().distribution() == []


def test_the_share_below_leaves_out_what_took_as_long():
    """Records of the same batch are neither faster nor slower; of nothing, nothing is below."""
    sketch = Sketch()
    sketch.add(1.0, 30)
    sketch.add(2.0, 10)

    assert sketch.share_below(2.0) == 0.75
    assert sketch.share_below(1.0) == 0.0
    assert Sketch().share_below(1.0) == 0.0
