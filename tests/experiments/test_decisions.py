"""The cost of decisions is measured on what is said to be measured."""

from __future__ import annotations

import pytest

from sage_dask.experiments import decisions, scheduler_cost


def test_a_decision_takes_some_time(monkeypatch):
    """Every decision of the measurement is one, and its time is above zero."""
    monkeypatch.setattr(decisions, "NUM_QUEUED", 100)

    assert decisions.decision_s("spread", 2, num_decisions=20) > 0


@pytest.mark.slow
def test_the_schedulers_cpu_is_that_of_its_own_process(monkeypatch):
    """A small graph goes through with and without the dispatcher, and the ratio is told."""
    monkeypatch.setattr(scheduler_cost, "NUM_TASKS", 300)
    monkeypatch.setattr(scheduler_cost, "NUM_WORKERS", 2)
    monkeypatch.setattr(scheduler_cost, "ROUNDS", 1)

    (row,) = scheduler_cost.scheduler_cost()

    assert row.ratio > 0
    assert "µs with dask" in row.baseline
