"""What a driver does that was ordered to."""

from __future__ import annotations

import pytest

from sage_dask.errors import JobCancelledError
from sage_dask.ordered import Ordered
from sage_dask.scheduling.on_dask.orders import Order


@pytest.fixture
def noted():
    """Lend what is noted, by its source."""
    return {}


@pytest.fixture
def ordered(noted):
    """Lend the orders of a job."""
    return Ordered("rag/1", "tcp://head:8786", noted.__setitem__)


def test_a_pause_is_noted_with_who_and_how_to_go_on(ordered, noted):
    """Until the job is resumed."""
    ordered.obey(Order("rag/1", "pause", "ada on head"))
    ordered.check()
    while_paused = (ordered.is_paused, *noted.values())
    ordered.obey(Order("rag/1", "resume", "ada on head"))
    ordered.check()

    assert while_paused == (
        True,
        (
            "paused by ada on head; go on in the dashboard, or with 'sage-dask jobs resume rag/1 "
            "--scheduler tcp://head:8786'"
        ),
    )
    assert (ordered.is_paused, *noted.values()) == (False, None)


def test_a_cancelled_job_is_ended_where_its_driver_looks(ordered):
    """Not in the thread that brings the order."""
    ordered.check()

    ordered.obey(Order("rag/1", "cancel", "ada on head"))

    with pytest.raises(JobCancelledError, match="job 'rag/1' was cancelled by ada on head"):
        ordered.check()
