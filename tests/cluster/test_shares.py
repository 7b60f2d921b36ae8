"""What one worker process gets of its node."""

from __future__ import annotations

import pytest

from sage_dask.cluster.shares import WorkerShare, share_out
from sage_dask.errors import PlanError


def test_each_worker_gets_an_equal_share():
    """Threads, resources and memory of the node are divided by its workers."""
    share = share_out(2, threads=8, resources={"LLM": 4, "GPU": 0.5}, memory_limit="1GiB")

    assert share == WorkerShare(4, {"LLM": 2, "GPU": 0.25}, 1 << 29)


@pytest.mark.parametrize("amount", [4, 4.0])
def test_whole_amounts_stay_whole(amount):
    """A share of a whole amount is of the same type, so that it reads as it was written."""
    share = share_out(2, threads=2, resources={"LLM": amount}).resources["LLM"]

    assert share == 2
    assert type(share) is type(amount)


def test_a_single_worker_gets_all_as_it_is():
    """Nothing needs to divide where there is nothing to share; no limit is zero bytes."""
    share = share_out(1, threads=3, resources={"LLM": 5, "GPU": 1.5})

    assert share == WorkerShare(3, {"LLM": 5, "GPU": 1.5}, 0)


def test_threads_that_do_not_divide_are_refused():
    """Workers of unequal size would be nobody's wish; the message names both numbers."""
    with pytest.raises(
        PlanError,
        match=r"workers_per_node=2\): threads of 3 per node .* over 2 workers; give a multiple",
    ):
        share_out(2, threads=3)


def test_resources_that_do_not_divide_are_refused():
    """Half a slot for a model is no slot, so an odd number over two workers is told."""
    with pytest.raises(PlanError, match=r"resource 'LLM' of 3 per node can not be split evenly"):
        share_out(2, threads=2, resources={"LLM": 3})
