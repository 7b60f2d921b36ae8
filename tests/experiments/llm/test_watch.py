"""Looks at something that runs, and the sums over them."""

from __future__ import annotations

import threading

import pytest

from sage_dask.experiments.llm.watch import Watch, at, between, growth

LOOKS = [(10.0, {"n": 0.0}), (12.0, {"n": 8.0}), (13.0, {"n": 8.0})]


def test_a_count_grows_evenly_between_two_looks():
    """Half of the way in time is half of the growth."""
    assert at(LOOKS, "n", 11.0) == 4.0


@pytest.mark.parametrize(("at_s", "count"), [(5.0, 0.0), (10.0, 0.0), (12.0, 8.0), (99.0, 8.0)])
def test_outside_of_the_looks_a_count_is_that_of_the_nearest(at_s, count):
    """Nothing is made up where nobody looked."""
    assert at(LOOKS, "n", at_s) == count


def test_growth_is_per_second():
    """Eight in two seconds, and none in the third."""
    assert growth(LOOKS, "n", 10.0, 12.0) == 4.0
    assert growth(LOOKS, "n", 12.0, 13.0) == 0.0


def test_looks_are_chosen_by_time():
    """Both ends belong to it."""
    assert between(LOOKS, 10.0, 12.0) == [{"n": 0.0}, {"n": 8.0}]


def test_a_look_that_fails_is_left_out_and_the_next_one_is_taken():
    """A server that is down says nothing for a while."""
    seen_twice = threading.Event()
    counts = iter(range(1000))

    def look():
        number = next(counts)
        if number % 2:
            raise OSError("down")
        if number >= 2:
            seen_twice.set()
        return {"n": float(number)}

    with Watch(look, every_s=0.001) as watch:
        assert seen_twice.wait(10)

    numbers = [look["n"] for _, look in watch.looks]
    assert numbers[:2] == [0.0, 2.0]
    assert all(number % 2 == 0 for number in numbers)
