"""Tests of what a process took of memory."""

from __future__ import annotations

from sage_dask.experiments.memory import own_peak_mib


def test_a_peak_is_a_plausible_size():
    """A Python process takes some MiB and less than this machine has."""
    assert 5 < own_peak_mib() < 1 << 20
