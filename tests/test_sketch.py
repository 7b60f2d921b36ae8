"""Latencies in buckets: what is counted below a bound, and what came since."""

from __future__ import annotations

import random

import pytest

from sage_dask.sketch import Sketch


def test_counts_below_bounds_are_true_to_one_per_cent_of_the_bound():
    """However wide values spread, a count lies between those of the bound less and plus one."""
    draw = random.Random(1)
    values = [draw.lognormvariate(0, 2) for _ in range(2000)]
    bounds = [1e6, 0.01, 0.1, 1.0, 2.5]
    sketch = Sketch()
    for value in values:
        sketch.add(value)

    reached = dict(zip(bounds, sketch.at_most(bounds), strict=True))

    for bound, count in reached.items():
        low, high = (sum(value <= bound * off for value in values) for off in (0.99, 1.011))
        assert low <= count <= high, bound
    assert reached[1e6] == sketch.num_records == 2000


@pytest.mark.parametrize("bound", [0.001, 1.0, 1000.0])
def test_nothing_is_below_any_bound_where_nothing_was_counted(bound):
    """An empty sketch has no count anywhere."""
    assert Sketch().at_most([bound]) == [0]


def test_what_came_since_is_a_sketch_of_its_own():
    """The difference of two moments counts only what is between them."""
    sketch = Sketch()
    sketch.add(1.0, 3)
    before = sketch.counts
    sketch.add(1.0, 2)
    sketch.add(10.0)

    since = sketch.since(before)

    assert since.at_most([0.5, 2.0, 20.0]) == [0, 2, 3]
    assert since.percentile(50) == pytest.approx(1.0, rel=0.011)
