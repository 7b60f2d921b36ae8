"""Averages over time."""

from __future__ import annotations

import pytest

from sage_dask.cluster.timed_server.load import LoadMeter


def test_averages_are_over_time_and_not_over_changes():
    """Two running for one second and none for three are half a one."""
    meter = LoadMeter(10.0)
    meter.observe(2, 6, 10.0)
    meter.observe(0, 0, 11.0)

    load = meter.load(14.0)

    assert (load.elapsed_s, load.mean_running, load.mean_waiting) == (4.0, 0.5, 1.5)
    assert (load.most_running, load.most_waiting) == (2, 6)


def test_a_reset_forgets_what_was_and_keeps_what_is():
    """What runs while the counts are reset goes on to count."""
    meter = LoadMeter(0.0)
    meter.observe(9, 9, 0.0)
    meter.observe(4, 0, 5.0)

    meter.reset(6.0)

    load = meter.load(8.0)
    assert (load.running_s, load.waiting_s) == (8.0, 0.0)
    assert (load.most_running, load.most_waiting) == (4, 0)


def test_no_time_has_no_load():
    """Right after a reset there is nothing to divide by."""
    load = LoadMeter(3.0).load(3.0)

    assert load.mean_running == pytest.approx(0.0)
    assert load.mean_waiting == pytest.approx(0.0)
