"""Jain's index, and the time over which it is taken."""

from __future__ import annotations

import pytest

from sage_dask.experiments.llm.fairness import jain, shared_time
from sage_dask.experiments.llm.result import Result


@pytest.mark.parametrize(
    ("values", "index"),
    [([5.0, 5.0], 1.0), ([1.0, 0.0], 0.5), ([2.0, 1.0], 0.9), ([0.0, 0.0], 0.0)],
)
def test_the_index_is_jains(values, index):
    """The square of the sum over n times the sum of squares."""
    assert jain(values) == pytest.approx(index)


def run_between(first_s, last_s):
    """Return a run with a row at its begin and one at its end."""
    rows = ((first_s, 1), (last_s, 1))
    return Result(read=2, written=2, failed=0, makespan_s=1.0, cpu_s=0.0, sent=2, rows=rows)


def test_only_the_time_counts_in_which_all_ran():
    """From a third of it on, up to when the first one had nothing more to send."""
    results = [run_between(0.0, 40.0), run_between(3.0, 30.0)]

    assert shared_time(results, seconds=45.0) == (12.0, 30.0)
    assert shared_time(results, seconds=18.0) == (8.0, 18.0)
