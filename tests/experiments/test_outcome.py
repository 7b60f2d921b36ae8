"""What a scenario came to, from the tasks that ran."""

from __future__ import annotations

import pytest

from sage_dask.experiments.outcome import Ran, outcome

ROWS = [Ran(0.0, 0.0, 1.0, "a"), Ran(0.0, 1.0, 2.0, "a"), Ran(1.0, 1.0, 3.0, "b")]


def test_everything_is_counted_over_all_nodes():
    """Latency runs from the scheduled arrival; a node without tasks counts as zero."""
    found = outcome(ROWS, ["a", "b", "c"], cpu_share=0.5)

    assert (found.num_tasks, found.num_nodes_used, found.cpu_share) == (3, 2, 0.5)
    assert found.throughput == 1.0
    assert (found.latency.p50_s, found.latency.p99_s) == (2.0, 2.0)
    assert found.busy_threads == pytest.approx(4 / 3)
    assert found.balance_of_busy_time == pytest.approx(1 - (2 / 4) ** 0.5)


def test_even_nodes_are_balanced():
    """Equal work on every node is a balance of one, in tasks and in time."""
    found = outcome([ROWS[0], Ran(0.0, 0.0, 1.0, "b")], ["a", "b"])

    assert (found.balance_of_tasks, found.balance_of_busy_time) == (1.0, 1.0)
