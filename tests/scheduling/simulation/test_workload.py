"""Workloads are plain data, and the same from one iteration to the next."""

from __future__ import annotations

import math

import pytest

from sage_dask.scheduling.simulation.workload import Poisson, exponential, single_steps, uniform
from sage_dask.scheduling.view import demand


def test_a_drawn_workload_is_the_same_each_time_it_is_iterated():
    """Policies are compared on equal terms: the second run gets the batches of the first."""
    work = Poisson(10.0, 50, uniform(0.1, 0.4), seed=3)

    first, second = list(work), list(work)

    assert first == second
    assert len(first) == 50


def test_seeds_differ():
    """Another seed is another workload."""
    work = [list(Poisson(10.0, 5, uniform(0.1, 0.4), seed=seed)) for seed in (1, 2)]

    assert work[0] != work[1]


def test_arrivals_keep_their_rate_and_their_order():
    """Ten thousand arrivals at fifty per second take two hundred seconds, give or take."""
    arrivals = [batch.arrives_s for batch in Poisson(50.0, 10_000, exponential(1.0), starts_s=7.0)]

    assert arrivals == sorted(arrivals)
    assert arrivals[0] >= 7.0
    assert arrivals[-1] - 7.0 == pytest.approx(200.0, rel=0.05)


def test_an_infinite_rate_brings_all_at_once():
    """A closed loop has everything waiting from the start."""
    arrivals = {batch.arrives_s for batch in Poisson(math.inf, 5, uniform(0.1, 0.2))}

    assert arrivals == {0.0}


def test_durations_keep_to_their_range():
    """A uniform draw stays between its ends and reaches for both."""
    seconds = [batch.steps[0].seconds for batch in Poisson(1.0, 1000, uniform(0.1, 0.4))]

    assert 0.1 <= min(seconds) < 0.11
    assert 0.39 < max(seconds) <= 0.4


def test_measured_lists_become_batches():
    """Durations and arrivals of a real run go in as they are."""
    needs = demand(gates={"llm": 1})

    batches = single_steps([0.2, 0.3], [1.0, 1.5], stage="generate", demand=needs, priority=2.0)

    assert [batch.arrives_s for batch in batches] == [1.0, 1.5]
    assert [batch.steps[0].seconds for batch in batches] == [0.2, 0.3]
    assert {batch.steps[0].demand for batch in batches} == {needs}
    assert {batch.priority for batch in batches} == {2.0}


def test_lists_of_different_length_are_refused():
    """A duration without an arrival is a mistake and not a batch at time zero."""
    with pytest.raises(ValueError, match="1 arrivals for 2 durations"):
        single_steps([0.2, 0.3], [1.0])
