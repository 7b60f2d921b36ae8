"""What policies are shown: needs of tasks, and load of nodes."""

from __future__ import annotations

import dataclasses

import pytest

from sage_dask.scheduling.view import THREADS, Demand, demand
from tests.scheduling.building import task, view


def test_equal_needs_are_one_demand_whatever_their_order():
    """Needs that are named in another order are the same demand, so tasks stand in one line."""
    one = demand({"LLM": 1, "GPU": 2}, {"llm": 1, "db": 3})
    other = demand({"GPU": 2.0, "LLM": 1.0}, {"db": 3.0, "llm": 1.0})

    assert one == other
    assert hash(one) == hash(other)


def test_every_task_takes_a_thread():
    """A task that names nothing needs one thread, as a demand without arguments does."""
    assert demand() == Demand()
    assert demand().fit.amounts == ((THREADS, 1.0),)


def test_a_demand_reads_as_what_it_needs():
    """Resources, gates and workers are named in that order."""
    wanted = demand({"GPU": 1}, {"llm": 4}, workers=frozenset({"tcp://b", "tcp://a"}))

    assert str(wanted) == "GPU=1, threads=1, gate llm=4, on tcp://a or tcp://b"


def test_amounts_are_those_of_the_worker_and_of_the_gates():
    """Quotas look at both."""
    assert dict(demand({"GPU": 1}, {"llm": 4}).amounts) == {"GPU": 1, "threads": 1, "llm": 4}


def test_load_is_work_per_thread_in_typical_tasks():
    """Six seconds of tasks that take two each, on four threads, are three quarters of full."""
    assert view("n1", outstanding_s=6.0, typical_s=2.0, threads=4.0).load == 0.75


@pytest.mark.parametrize("shown", [task("a"), view("n1"), demand()])
def test_views_can_not_be_changed(shown):
    """A policy that writes to what it is shown gets an error."""
    first = dataclasses.fields(shown)[0].name

    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(shown, first, None)


def test_inputs_can_not_be_changed_either():
    """Tasks without inputs share one empty mapping that takes no entries."""
    with pytest.raises(TypeError):
        task("a").inputs["n1"] = 1
